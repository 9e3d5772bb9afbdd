#!/usr/bin/env python3
"""Writes tests/golden/<case>/{arch.json, case.json, tensors.safetensors}: numbers to test against.

Each case is one small architecture with parameters, a batch, and what PyTorch computes from them in
float64: logits, loss, gradients, running statistics, evaluation logits and ten training steps. All
inputs come from the constants below; running it again gives the same architectures and parameters
and the same results to float64 rounding. tests/golden/README.md describes every file.

Usage: tools/setup-pytorch.sh && .venv/bin/python tools/make_goldens.py [case ...]
       .venv/bin/python tools/make_goldens.py --check [case ...]   # test this code, write nothing
"""

import argparse
import copy
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

import golden_archs as archs
import golden_networks as networks

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
STEPS = 10

# Inputs of a ReLU nearer to 0 than this (relative to their tensor's rms) could change sign in f32
# and with it a gradient, which Adam can turn into a visible difference. Seeds are tried until no
# forward of the case, training steps included, has one. float32 errs by about 3e-7 here.
MIN_KINK_DISTANCE = 2e-6

HYPER = {"stem": 7, "layers": [2, 3, 2], "growth": 4}
ADAM = {"kind": "adam", "lr": 1e-3, "beta1": 0.5, "beta2": 0.999, "eps": 1e-4, "weight_decay": 1e-4,
        "no_decay_prefix": "hyper."}
SGD = {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}

SMASH_FINAL = ["hyper.out.w", "block0.w0", "transition0.bn.gamma"]
RESULTING_FINAL = ["block0.op0.w_in", "block1.op0.w0", "head.fc.w"]


def v2_wanted(max_weights, *more):
    """All body configurations and kernels, writes and reads of every kind, not too many weights."""

    def wanted(arch):
        return (
            archs.covers_all_bodies(arch)
            and archs.uses_small_kernels_and_groups(arch)
            and archs.repeats_channel_groups(arch)
            and archs.reads_a_sum(arch)
            and {block["bank_size"] for block in arch["blocks"]} != {1}
            and all(extra(arch) for extra in more)
            and exact_weights(arch) <= max_weights
        )

    return wanted


def exact_weights(arch):
    return sum(math.prod(s) for s in networks.resulting_shapes(arch, "sandwich", 3, 10).values())


def golden_cases():
    """Name -> constants. `seed` draws the architecture, `size` is the image's height and width."""
    v2 = archs.v2_space
    tiny = dict(unit=4, n_max=8, max_bank_size=2, kernels=[3, 5], depth=2)
    odd = dict(unit=2, n_max=6, max_bank_size=3, kernels=[3, 5], groups=[1, 2], depth=1, widening=3)
    wide = dict(unit=4, n_max=16, max_bank_size=4, widening=1)
    leftover = dict(unit=2, n_max=12, max_bank_size=4, groups=[1, 2], depth=1, widening=3)
    # At 0.1 ten steps of a network with BatchNorm in its ops amplify float32 rounding beyond the
    # kink distance: in `full`, some orders of summation flipped a ReLU at the eighth.
    sgd_slow = {**SGD, "lr": 0.02}
    return {
        "smash_v1": dict(
            seed=1, space=archs.v1_space(), wanted=archs.leaves_empty_banks,
            hyper=HYPER, optimizer=ADAM, classes=10, channels=3, size=12, batch=2,
        ),
        "smash_v2": dict(
            seed=2, space=v2(**tiny), wanted=v2_wanted(10**9),
            hyper={"stem": 5, "layers": [1, 2, 1], "growth": 3}, optimizer=ADAM,
            classes=5, channels=1, size=12, batch=3,
        ),
        "smash_v2_b": dict(
            seed=3, space=v2(**odd), shuffled_writes=True,
            wanted=v2_wanted(10**9, archs.drops_leftover_channels, archs.shares_a_slice,
                             archs.leaves_empty_banks),
            hyper={"stem": 4, "layers": [2, 1, 1], "growth": 2}, optimizer=ADAM,
            classes=7, channels=3, size=12, batch=2,
        ),
        "resulting_sandwich": dict(
            seed=7, space=v2(**wide), wanted=v2_wanted(40_000), variant="sandwich",
            optimizer=sgd_slow, classes=10, channels=3, size=12, batch=4,
        ),
        "resulting_full": dict(
            seed=5, space=v2(**leftover), wanted=v2_wanted(40_000, archs.drops_leftover_channels),
            variant="full", optimizer=sgd_slow, classes=7, channels=3, size=16, batch=5,
        ),
        "resulting_weightnorm": dict(
            seed=6, space=v2(**wide), wanted=v2_wanted(40_000), variant="weightnorm",
            optimizer=SGD, classes=10, channels=1, size=8, batch=6,
        ),
    }


# ------------------------------------------------------------------ one case


class Case:
    """An architecture, its network with float64 leaf parameters, and a batch."""

    def __init__(self, name, spec):
        self.name, self.spec = name, spec
        self.arch = archs.find_arch(spec["space"], spec["seed"], spec["wanted"],
                                    spec.get("shuffled_writes", False))
        self.is_smash = "hyper" in spec
        for attempt in range(500):
            self.draw(spec["seed"] * 1000 + attempt)
            self.kink_distance = self.closest_kink()
            if self.kink_distance >= MIN_KINK_DISTANCE:
                return
        raise SystemExit(f"{name}: every seed puts a ReLU input near 0")

    def closest_kink(self):
        """The nearest that any ReLU input comes to 0, in evaluation and in all training steps."""
        trained = self.copy(torch.float64)
        net = trained.network(self.fresh_running())
        with torch.no_grad():
            net.forward(self.x)
            net.training = False
            net.forward(self.x)
        if net.closest_kink >= MIN_KINK_DISTANCE:
            train(trained, net)
        return net.closest_kink

    def draw(self, seed):
        spec = self.spec
        generator = torch.manual_seed(seed)
        self.parameter_seed = seed
        if self.is_smash:
            shapes = networks.smash_shapes(self.arch, spec["hyper"], spec["channels"], spec["classes"])
        else:
            shapes = networks.resulting_shapes(self.arch, spec["variant"], spec["channels"], spec["classes"])
        self.params = {name: draw_parameter(name, shape, generator) for name, shape in shapes.items()}
        image = (spec["batch"], spec["channels"], spec["size"], spec["size"])
        self.x = torch.randn(image, generator=generator).double()
        self.labels = torch.randint(spec["classes"], (spec["batch"],), generator=generator)

    def fresh_running(self):
        """Running statistics before training: mean 0, variance 1, at the full size of gamma."""
        names = [name.removesuffix(".gamma") for name in self.params if name.endswith(".gamma")]
        sizes = {name: len(self.params[f"{name}.gamma"]) for name in names}
        like = self.x.dtype
        return {name: (torch.zeros(n, dtype=like), torch.ones(n, dtype=like)) for name, n in sizes.items()}

    def copy(self, dtype):
        """The same case with fresh leaf parameters of another dtype (training changes parameters)."""
        other = copy.copy(self)
        other.x = self.x.to(dtype)
        other.params = {n: p.detach().to(dtype, copy=True).requires_grad_() for n, p in self.params.items()}
        return other

    def network(self, running, arch=None):
        arch, params = arch or self.arch, self.params
        if self.is_smash:
            return networks.SmashNet(arch, params, running, self.spec["hyper"])
        return networks.ResultingNet(arch, params, running, self.spec["variant"])

    def loss(self, logits):
        return F.cross_entropy(logits, self.labels)


def draw_parameter(name, shape, generator):
    """A float64 leaf whose values are exactly representable in float32."""
    if name.endswith(".gamma"):
        value = 0.5 + torch.rand(shape, generator=generator)
    elif name.endswith(".beta"):
        value = 0.3 * torch.randn(shape, generator=generator)
    elif name.endswith(".b"):
        value = 0.1 * torch.randn(shape, generator=generator)
    else:
        # An op uses a window of a shared body filter: about half its input channels, 3x3 or 5x5.
        shared = name.startswith("block") and ".op" not in name
        fan_in = shape[1] // 2 * min(math.prod(shape[2:]), 16) if shared else math.prod(shape[1:])
        value = math.sqrt(2 / fan_in) * torch.randn(shape, generator=generator)
    return value.double().requires_grad_()


def compute(case):
    """All tensors of tensors.safetensors, as numpy arrays in the case's dtype (labels: int32)."""
    case = case.copy(case.x.dtype)
    out = {"x": case.x, "labels": case.labels.int()}
    out |= {f"p/{name}": p.detach().clone() for name, p in case.params.items()}

    running = case.fresh_running()
    net = case.network(running)
    logits = net.forward(case.x)
    loss = case.loss(logits)
    names = list(case.params)
    grads = torch.autograd.grad(loss, [case.params[n] for n in names], allow_unused=True)
    out |= {"logits": logits, "loss": loss.reshape(1)}
    for name, grad in zip(names, grads):
        out[f"g/{name}"] = torch.zeros_like(case.params[name]) if grad is None else grad
    for name, (mean, var) in running.items():
        out |= {f"running/{name}.mean": mean.clone(), f"running/{name}.var": var.clone()}
    if case.is_smash:
        out |= {"c": net.c, "hyper_out": net.hyper_out}

    net.training = False
    with torch.no_grad():
        out["eval_logits"] = net.forward(case.x)

    out["losses"] = train(case, net)
    for name in SMASH_FINAL if case.is_smash else RESULTING_FINAL:
        out[f"final/{name}"] = case.params[name]
    return {name: t.detach().contiguous().numpy() for name, t in out.items()}


def train(case, net):
    """STEPS updates of case.params on the one batch; the loss before each of them."""
    o = case.spec["optimizer"]
    if o["kind"] == "adam":
        decayed = [p for n, p in case.params.items() if not n.startswith(o["no_decay_prefix"])]
        free = [p for n, p in case.params.items() if n.startswith(o["no_decay_prefix"])]
        groups = [{"params": decayed, "weight_decay": o["weight_decay"]}, {"params": free}]
        optimizer = torch.optim.Adam(groups, o["lr"], (o["beta1"], o["beta2"]), o["eps"])
    else:
        optimizer = torch.optim.SGD(case.params.values(), o["lr"], o["momentum"],
                                    weight_decay=o["weight_decay"], nesterov=o["nesterov"])
    net.training = True
    losses = []
    for p in case.params.values():
        p.grad = torch.zeros_like(p)  # a filter no op uses has gradient 0 and is decayed all the same
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=False)
        loss = case.loss(net.forward(case.x))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses).double()


def case_json(case, tensors):
    spec = case.spec
    described = {
        "schema": 1,
        "network": "smash" if case.is_smash else "resulting",
        "variant": spec.get("variant"),
        "classes": spec["classes"],
        "image_channels": spec["channels"],
        "image_size": spec["size"],
        "batch": spec["batch"],
        "hyper": {**spec["hyper"], "leaky_slope": networks.LEAKY_SLOPE} if case.is_smash else None,
        "batch_norm": {"eps": networks.BN_EPS, "momentum": networks.BN_MOMENTUM},
        "optimizer": spec["optimizer"],
        "steps": STEPS,
        "final": [name.removeprefix("final/") for name in tensors if name.startswith("final/")],
        "arch_seed": spec["seed"],
        "parameter_seed": case.parameter_seed,
    }
    return {key: value for key, value in described.items() if value is not None}


def write(case):
    folder = GOLDEN / case.name
    folder.mkdir(parents=True, exist_ok=True)
    tensors = compute(case)
    assert all(np.isfinite(t).all() for t in tensors.values()), case.name
    described = case_json(case, tensors)
    (folder / "arch.json").write_text(arch_text(case.arch))
    (folder / "case.json").write_text(json.dumps(described, indent=2) + "\n")
    stored = {n: t if t.dtype == np.int32 else t.astype(np.float32) for n, t in tensors.items()}
    save_file(stored, folder / "tensors.safetensors")
    size = sum(f.stat().st_size for f in folder.iterdir()) / 1000
    losses = tensors["losses"]
    print(f"{case.name:22} {size:4.0f} kB  kink {case.kink_distance:.0e}  "
          f"loss {losses[0]:.3f} -> {losses[-1]:.3f}  seed {case.parameter_seed}")


def arch_text(arch):
    """JSON with one op a line."""
    blocks = []
    for block in arch["blocks"]:
        ops = ",\n      ".join(json.dumps(op) for op in block["ops"])
        blocks.append(f'    {{"bank_size": {block["bank_size"]}, "n_banks": {block["n_banks"]}, '
                      f'"ops": [\n      {ops}\n    ]}}')
    space = json.dumps(arch["space"])
    return (f'{{\n  "schema": {arch["schema"]},\n  "space": {space},\n'
            '  "blocks": [\n' + ",\n".join(blocks) + "\n  ]\n}\n")


# ------------------------------------------------------------------ checks of this code


def check(case):
    """Gradients against central differences; evaluation, reads and the gather make a difference."""
    worst = check_gradients(case)
    with torch.no_grad():
        running = case.fresh_running()
        net = case.network(running)
        trained = net.forward(case.x)
        net.training = False
        assert (net.forward(case.x) - trained).abs().max() > 1e-3, "evaluation equals training"
        if case.is_smash:
            check_gather(case, net)
        for b, i, corrupted in corrupted_reads(case.arch):
            logits = case.network(case.fresh_running(), corrupted).forward(case.x)
            moved = (logits - trained).abs().max()
            assert moved > 1e-4, f"block {b} op {i}: another read index changes nothing"
    print(f"{case.name:22} ok, gradients within {worst:.0e} of central differences; "
          f"float32 within {single_precision(case)}")


def single_precision(case):
    """How far the same code in float32 ends up, relative to each tensor's largest magnitude."""
    exact, single = compute(case), compute(case.copy(torch.float32))
    worst = {}
    for name, value in exact.items():
        kind = name.split("/")[0]
        if kind not in ("x", "labels", "p", "c") and np.abs(value).max() > 0:
            difference = np.abs(single[name] - value).max() / np.abs(value).max()
            worst[kind] = max(worst.get(kind, 0), difference)
    assert max(worst.values()) < 1e-4, worst
    return ", ".join(f"{kind} {difference:.0e}" for kind, difference in worst.items())


def check_gradients(case, step=1e-6):
    """The element of largest gradient of every parameter, against a central difference."""

    def loss():
        return case.loss(case.network(case.fresh_running()).forward(case.x))

    grads = torch.autograd.grad(loss(), list(case.params.values()), allow_unused=True)
    worst = 0.0
    with torch.no_grad():
        for (name, p), grad in zip(case.params.items(), grads):
            if grad is None or grad.abs().max() == 0:
                assert case.is_smash and name in unused_filters(case.arch), f"{name}: gradient is 0"
                continue
            at = grad.abs().argmax()
            flat, original = p.view(-1), p.view(-1)[at].item()
            flat[at] = original + step
            above = loss()
            flat[at] = original - step
            below = loss()
            flat[at] = original
            numeric = (above - below) / (2 * step)
            difference = (numeric - grad.view(-1)[at]).abs() / grad.abs().max()
            assert difference < 1e-3, f"{name}: {numeric} against {grad.view(-1)[at]}"
            worst = max(worst, difference.item())
    return worst


def unused_filters(arch):
    """Shared body filters that no op of their block uses."""
    used = {
        f"block{b}.w{j}"
        for b, block in enumerate(arch["blocks"]) for op in block["ops"]
        for j in range(4) if op["body"][j]
    }
    return {f"block{b}.w{j}" for b in range(3) for j in range(4)} - used


def check_gather(case, net):
    """W[t*D*N + i, h*R*N + o] = H_out[o*D*N + i, h, t], entry by entry."""
    space = case.arch["space"]
    ins = space["depth_compression"] * space["unit"]
    outs = space["expansion"] * space["unit"]
    rng = np.random.default_rng(0)
    for _ in range(100):
        o, i = rng.integers(outs), rng.integers(ins)
        h, t = rng.integers(net.c.shape[1]), rng.integers(net.c.shape[2])
        assert net.matrix[t * ins + i, h * outs + o] == net.hyper_out[o * ins + i, h, t]


def corrupted_reads(arch):
    """The architecture with one read of one op moved to another written bank, for every op that can."""
    for b, block in enumerate(arch["blocks"]):
        written = archs.bank_count(arch["space"], b, block["bank_size"])[0]
        for i, op in enumerate(block["ops"]):
            other = [m for m in range(written) if m not in op["read"]]
            if other:
                changed = copy.deepcopy(arch)
                read = changed["blocks"][b]["ops"][i]["read"]
                read[0] = other[0]
                read.sort()
                yield b, i, changed
            written = max(written, 1 + max(op["write"]))


def main():
    cases = golden_cases()
    parser = argparse.ArgumentParser(description="Write the golden numbers in tests/golden/.")
    parser.add_argument("case", nargs="*", help=f"of {', '.join(cases)}; default: all")
    parser.add_argument("--check", action="store_true", help="check this code; write nothing")
    args = parser.parse_args()
    unknown = set(args.case) - set(cases)
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))} (there are {', '.join(cases)})")
    torch.set_num_threads(1)
    for name in args.case or cases:
        case = Case(name, cases[name])
        check(case) if args.check else write(case)


if __name__ == "__main__":
    main()
