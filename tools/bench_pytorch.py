#!/usr/bin/env python3
"""Measures training steps of this engine and of eager PyTorch on the same architectures, in one run.

The engine's benchmark `step` draws the architectures, or finds them in --archs. Then, round after
round, the engine (a process of its own) and PyTorch take their steps in turn on the same device, so
that whatever slows the machine down slows both. The networks are those of golden_networks.py, in
float32, without anything that only the golden numbers need.

    python3 tools/bench_pytorch.py --device cuda:0 --engine path/to/step --json pytorch.json

What is compared: one training step of 50 images, forward, loss, backward and update. In favour of
PyTorch, its images lie normalised on the device and are not cropped or mirrored, its encoding of an
architecture is built in one piece, and nothing is read back in steps in a row. PyTorch runs eagerly,
with the layout and optimisers it has by default; cuDNN searches for algorithms (cudnn.benchmark)
only where the architecture stays, in resulting networks. Both settings of TF32 are measured: with it,
cuDNN and matrix products may round operands to 10 bits of mantissa. What the engine does is said in
its own JSON, `arithmetic`. A resulting network of the engine replays its step as a CUDA graph.
"""

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import golden_networks as networks

WARM_UP = 3
IMAGES = 1000
DEFAULT_ENGINE = ["cargo", "bench", "--quiet", "--bench", "step", "--"]


# ------------------------------------------------------------------ the networks, without overhead


class Lean:
    """Leaves out what golden_networks.py computes only to choose its cases."""

    def relu(self, x):
        return F.relu(x)

    def watch_kink(self, x):
        pass


class SmashNet(Lean, networks.SmashNet):
    """As golden_networks.SmashNet; the encoding goes to the device in one piece."""

    def __init__(self, arch, params, running, hyper):
        networks.MainNet.__init__(self, arch, params, running)
        self.hyper = hyper
        encoding, self.slices_of = encode(arch)
        stem = params["stem.w"]
        self.c = torch.from_numpy(encoding).to(stem.device, stem.dtype, non_blocking=True)


class ResultingNet(Lean, networks.ResultingNet):
    """As golden_networks.ResultingNet."""


def encode(arch):
    """golden_networks.encode as one numpy array, and the slices of each (block, op)."""
    space = arch["space"]
    facts = networks.full_facts if space["encoding"] == "full" else networks.paper_facts
    banks = networks.max_banks(space)
    columns, heights, slices_of = [], [], {}
    for b, block in enumerate(arch["blocks"]):
        for i, op in enumerate(block["ops"]):
            rest = networks.one_hot(op["write"], banks) + facts(space, b, op)
            count = networks.op_slices(space, block["bank_size"], op)
            slices_of[b, i] = (len(columns), len(columns) + count)
            for index in range(count):
                read = networks.banks_of_slice(space, block["bank_size"], op, index)
                columns.append(networks.one_hot(read, banks) + rest)
                heights.append(op["width"])
    rows = np.arange(networks.widths(space))[:, None] < np.array(heights)[None, :]
    return np.array(columns, np.float32).T[:, None, :] * rows[None], slices_of


def parameter(name, shape, device):
    """Random values of about the size they start with; leaves."""
    if name.endswith((".gamma", ".beta", ".b")):
        value = torch.full(shape, 1.0 if name.endswith(".gamma") else 0.0, device=device)
    else:
        fan_in = np.prod(shape[1:])
        value = torch.randn(shape, device=device) * float((2 / fan_in) ** 0.5)
    return value.requires_grad_()


class Trainer:
    """The parameters of a network, its optimiser, and steps."""

    def __init__(self, shapes, make_net, make_optimizer, images, labels, batch):
        device = images.device
        self.params = {name: parameter(name, shape, device) for name, shape in shapes.items()}
        names = [name.removesuffix(".gamma") for name in shapes if name.endswith(".gamma")]
        sizes = {name: shapes[f"{name}.gamma"] for name in names}
        self.running = {n: (torch.zeros(s, device=device), torch.ones(s, device=device)) for n, s in sizes.items()}
        self.make_net = make_net
        self.optimizer = make_optimizer(self.params)
        self.images, self.labels, self.batch = images, labels, batch

    def step(self, arch):
        """Queues a training step; its loss."""
        chosen = torch.randint(len(self.images), (self.batch,), device=self.images.device)
        self.optimizer.zero_grad()
        logits = self.make_net(arch, self.params, self.running).forward(self.images[chosen])
        loss = F.cross_entropy(logits, self.labels[chosen])
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def smash_optimizer(report):
    o = report["optimizer"]

    def make(params):
        groups = [
            {"params": [p for n, p in params.items() if not n.startswith("hyper.")], "weight_decay": o["decay"]},
            {"params": [p for n, p in params.items() if n.startswith("hyper.")]},
        ]
        return torch.optim.Adam(groups, report["lr"], (o["beta1"], o["beta2"]), o["epsilon"])

    return make


def resulting_optimizer(report):
    o = report["optimizer"]
    return lambda params: torch.optim.SGD(
        params.values(), report["lr"], o["momentum"], weight_decay=o["decay"], nesterov=True)


# ------------------------------------------------------------------ measuring


class Torch:
    """PyTorch with one setting of TF32: takes the same samples as the engine's benchmark."""

    def __init__(self, args, report, archs, tf32):
        self.args, self.report, self.archs, self.tf32 = args, report, archs, tf32
        self.device = torch.device(args.device)
        image = report["image"]
        shape = (IMAGES, image["channels"], image["size"], image["size"])
        self.images = torch.randn(shape, device=self.device)
        self.labels = torch.randint(image["classes"], (IMAGES,), device=self.device)
        self.smash = None

    def set_up(self):
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        torch.backends.cudnn.allow_tf32 = self.tf32
        torch.backends.cudnn.benchmark = self.args.network == "resulting"

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def trainer(self, shapes, make_net, make_optimizer):
        return Trainer(shapes, make_net, make_optimizer, self.images, self.labels, self.report["batch"])

    def round(self):
        """Milliseconds of a step alone for each architecture, and per step in a row."""
        self.set_up()
        return self.smash_round() if self.args.network == "smash" else self.resulting_round()

    def alone(self, trainer, arch):
        self.synchronize()
        start = time.perf_counter()
        loss = trainer.step(arch).item()
        self.synchronize()
        assert np.isfinite(loss), "PyTorch's loss is not finite"
        return (time.perf_counter() - start) * 1e3

    def row(self, trainer, archs):
        self.synchronize()
        start = time.perf_counter()
        for arch in archs:
            trainer.step(arch)
        self.synchronize()
        return (time.perf_counter() - start) * 1e3 / len(archs)

    def smash_round(self):
        if self.smash is None:
            image, hyper = self.report["image"], self.report["hyper"]
            shapes = networks.smash_shapes(self.archs[0], hyper, image["channels"], image["classes"])
            net = lambda arch, params, running: SmashNet(arch, params, running, hyper)
            self.smash = self.trainer(shapes, net, smash_optimizer(self.report))
            for i in range(max(WARM_UP, len(self.archs))):
                self.alone(self.smash, self.archs[i % len(self.archs)])
        alone = [[self.alone(self.smash, arch)] for arch in self.archs]
        return alone, [self.row(self.smash, self.archs)]

    def resulting_round(self):
        image, norm = self.report["image"], self.report["norm"]
        net = lambda arch, params, running: ResultingNet(arch, params, running, norm)
        alone, row = [], []
        for arch in self.archs:
            shapes = networks.resulting_shapes(arch, norm, image["channels"], image["classes"])
            trainer = self.trainer(shapes, net, resulting_optimizer(self.report))
            for _ in range(WARM_UP):
                self.alone(trainer, arch)
            steps = self.args.steps
            alone.append([self.alone(trainer, arch) for _ in range(steps)])
            row.append(self.row(trainer, [arch] * steps))
        return alone, row


def engine_round(args, folder, rounds):
    """Runs the engine's benchmark; its JSON."""
    file = Path(folder) / "engine.json"
    command = args.engine + [
        "--device", args.device, "--preset", args.preset, "--network", args.network,
        "--archs", str(args.archs), "--count", str(args.count), "--seed", str(args.seed),
        "--conv", args.conv, "--rounds", str(rounds), "--batch", str(args.batch), "--size", str(args.size), "--json", str(file),
    ]
    if args.threads:
        command += ["--threads", str(args.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return json.loads(file.read_text())


def measure(args, folder):
    """Who -> samples: {"alone": [per architecture: [ms]], "row": [ms]}; and the engine's own report."""
    per_round = 1 if args.network == "smash" else args.steps
    report = engine_round(args, folder, 1)  # also draws the architectures
    archs = [json.loads((args.archs / arch["file"]).read_text()) for arch in report["archs"]]
    settings = {"on": [True], "off": [False], "both": [True, False]}[args.tf32]
    if args.device == "cpu":
        settings = [False]
    peers = {f"pytorch, TF32 {'on' if tf32 else 'off'}": Torch(args, report, archs, tf32) for tf32 in settings}
    samples = {who: {"alone": [[] for _ in archs], "row": []} for who in ["engine", *peers]}

    def add(who, alone, row):
        for kept, new in zip(samples[who]["alone"], alone):
            kept += new
        samples[who]["row"] += row

    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
        engine = engine_round(args, folder, per_round)
        add("engine", [arch["samples_ms"] for arch in engine["archs"]], engine["row_ms_per_step"])
        for who, peer in peers.items():
            add(who, *peer.round())
    return samples, report


# ------------------------------------------------------------------ results


def spread(values):
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def ratios(samples):
    """Who -> how many times the engine's time it takes: per architecture, and in a row."""
    engine, found = samples["engine"], {}
    for who, peer in samples.items():
        if who != "engine":
            pairs = zip(peer["alone"], engine["alone"])
            each = [statistics.median(theirs) / statistics.median(ours) for theirs, ours in pairs]
            row = [theirs / ours for theirs, ours in zip(peer["row"], engine["row"])]
            found[who] = {"alone_of_each_arch": each, "alone": spread(each), "row": spread(row)}
    return found


def table(samples, report, times):
    """Markdown: a line for each architecture, then the ratios."""
    whos = list(samples)
    lines = ["| architecture | GFLOP | " + " | ".join(f"{who}, ms" for who in whos) + " |",
             "|---|---|" + "---|" * len(whos)]
    for i, arch in enumerate(report["archs"]):
        medians = [f"{statistics.median(samples[who]['alone'][i]):.2f}" for who in whos]
        lines.append(f"| {arch['id']} | {arch['flop_per_step'] / 1e9:.1f} | " + " | ".join(medians) + " |")
    rows = [f"{statistics.median(samples[who]['row']):.2f}" for who in whos]
    lines.append("| in a row, per step | | " + " | ".join(rows) + " |\n")
    for who, ratio in times.items():
        for kind in ["alone", "row"]:
            r = ratio[kind]
            lines.append(f"{who} takes {r['median']:.2f} times the engine's time, steps "
                         f"{'alone' if kind == 'alone' else 'in a row'} ({r['lowest']:.2f} to {r['highest']:.2f})")
    return "\n".join(lines)


def described(args):
    """The PyTorch side, in words."""
    gpu = torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else None
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "device": gpu or platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "mode": "eager, NCHW, float32, default optimisers (foreach)",
        "cudnn_benchmark": args.network == "resulting",
    }


def arguments():
    parser = argparse.ArgumentParser(description="Compare training steps with eager PyTorch.")
    parser.add_argument("--device", default="cuda:0", help="cuda:N or cpu, for both")
    parser.add_argument("--engine", help="the engine's benchmark `step`; by default cargo builds it")
    parser.add_argument("--preset", default="v2", choices=["v1", "v2", "small"])
    parser.add_argument("--network", default="smash", choices=["smash", "resulting"])
    parser.add_argument("--archs", type=Path, help="folder of architectures; filled when empty; default: a new one")
    parser.add_argument("--count", type=int, default=8, help="architectures to draw")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=5, help="steps of a resulting network in each turn")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--tf32", default="both", choices=["on", "off", "both"], help="PyTorch's; the CPU has none")
    parser.add_argument("--conv", default="exact", choices=["exact", "fast"], help="the engine's: f32 or with TF32")
    parser.add_argument("--threads", type=int, help="of the CPU, for both")
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    args = parser.parse_args()
    args.engine = [args.engine] if args.engine else DEFAULT_ENGINE
    if shutil.which(args.engine[0]) is None:
        parser.error(f"{args.engine[0]}: no such program")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU; --device cpu compares on the CPU")
    if args.threads:
        torch.set_num_threads(args.threads)
    return args


def main():
    args = arguments()
    torch.manual_seed(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        args.archs = args.archs or Path(folder) / "archs"
        samples, report = measure(args, folder)
    times = ratios(samples)
    pytorch = described(args)
    print(f"engine {report['version']} and PyTorch {pytorch['torch']} on {pytorch['device']}: "
          f"{args.network} network, space {args.preset}, {args.batch} images of {args.size} x {args.size}")
    print(f"engine: {report['arithmetic']}\n")
    print(table(samples, report, times))
    if args.json:
        args.json.write_text(json.dumps({
            "benchmark": "pytorch", "network": args.network, "preset": args.preset, "batch": args.batch,
            "rounds": args.rounds, "pytorch": pytorch, "engine": {k: report[k] for k in ["version", "device", "arithmetic"]},
            "archs": [{k: arch[k] for k in ["id", "file", "params", "flop_per_step"]} for arch in report["archs"]],
            "times_the_engines_time": times, "samples_ms": samples,
        }, indent=1) + "\n")


if __name__ == "__main__":
    main()
