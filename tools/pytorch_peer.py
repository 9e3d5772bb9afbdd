"""PyTorch's side of bench_pytorch.py and bench_pytorch_convs.py: a process that is asked to run and answers with times.

Requests and answers are lines of JSON on stdin and stdout; the methods of `Peer` say what they hold. A
process of its own has its own peak of memory, and what it times shares nothing with who asks.

The networks are those of golden_networks.py in float32 and eager, without what only the golden
numbers need. An encoding is built as one array, not number by number. With `channels_last`, pictures,
filters and encodings have that layout, which PyTorch advises for convolutions but has to be asked for.
"""

import json
import platform
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

import golden_networks as networks

IMAGES = 1000
# Calls of a convolution before the first sample.
WARM_UP = 2
# A convolution that takes longer than this ends with fewer samples, as in the engine's benchmark.
SECONDS = 4.0


# ------------------------------------------------------------------ the networks, without overhead


class Lean:
    """Leaves out what golden_networks.py computes only to choose its cases."""

    def relu(self, x):
        return F.relu(x)

    def watch_kink(self, x):
        pass


class SmashNet(Lean, networks.SmashNet):
    """As golden_networks.SmashNet; the encoding goes to the device in one piece."""

    def __init__(self, arch, params, running, hyper, place):
        networks.MainNet.__init__(self, arch, params, running)
        self.hyper = hyper
        encoding, self.slices_of = encode(arch)
        self.c = place.put(torch.from_numpy(encoding)[None])[0]


class ResultingNet(Lean, networks.ResultingNet):
    """As golden_networks.ResultingNet."""


def encode(arch):
    """golden_networks.encode as one numpy array, and the slices of each (block, op)."""
    space = arch["space"]
    facts_of = networks.full_facts if space["encoding"] == "full" else networks.paper_facts
    banks = networks.max_banks(space)
    columns, heights, slices_of = [], [], {}
    for b, block in enumerate(arch["blocks"]):
        for i, op in enumerate(block["ops"]):
            rest = networks.one_hot(op["write"], banks) + facts_of(space, b, op)
            count = networks.op_slices(space, block["bank_size"], op)
            slices_of[b, i] = (len(columns), len(columns) + count)
            for index in range(count):
                read = networks.banks_of_slice(space, block["bank_size"], op, index)
                columns.append(networks.one_hot(read, banks) + rest)
                heights.append(op["width"])
    rows = np.arange(networks.widths(space))[:, None] < np.array(heights)[None, :]
    return np.array(columns, np.float32).T[:, None, :] * rows[None], slices_of


class Place:
    """Where tensors live, and the layout of those that have one: pictures and filters."""

    def __init__(self, device, channels_last):
        self.device = torch.device(device)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format

    def put(self, x):
        x = x.to(self.device, non_blocking=True)
        return x.contiguous(memory_format=self.layout) if x.dim() == 4 else x

    def random(self, *shape):
        return self.put(torch.randn(shape, device=self.device))

    def parameter(self, name, shape):
        """A leaf with random values of about the size they start with."""
        if name.endswith((".gamma", ".beta", ".b")):
            value = torch.full(shape, 1.0 if name.endswith(".gamma") else 0.0, device=self.device)
        else:
            value = self.random(*shape) * float((2 / np.prod(shape[1:])) ** 0.5)
        return value.requires_grad_()

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Trainer:
    """The parameters of a network, its optimiser, and steps on images that lie normalised on the device."""

    def __init__(self, shapes, make_net, make_optimizer, workload, place):
        image, device = workload["image"], place.device
        self.place, self.batch, self.make_net = place, workload["batch"], make_net
        self.images = place.random(IMAGES, image["channels"], image["size"], image["size"])
        self.labels = torch.randint(image["classes"], (IMAGES,), device=device)
        self.params = {name: place.parameter(name, shape) for name, shape in shapes.items()}
        self.optimizer = make_optimizer(self.params)
        sizes = {name.removesuffix(".gamma"): shapes[name] for name in shapes if name.endswith(".gamma")}
        self.running = {n: (torch.zeros(s, device=device), torch.ones(s, device=device)) for n, s in sizes.items()}

    def step(self, arch):
        """Queues a training step; its loss."""
        chosen = torch.randint(IMAGES, (self.batch,), device=self.place.device)
        self.optimizer.zero_grad()
        logits = self.make_net(arch, self.params, self.running).forward(self.images[chosen])
        loss = F.cross_entropy(logits, self.labels[chosen])
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def alone(self, arch):
        """Milliseconds of a step until its loss is here."""
        self.place.synchronize()
        start = time.perf_counter()
        loss = self.step(arch).item()
        self.place.synchronize()
        assert np.isfinite(loss), "PyTorch's loss is not finite"
        return (time.perf_counter() - start) * 1e3

    def in_a_row(self, archs):
        """Milliseconds per step, with nothing read back in between."""
        self.place.synchronize()
        start = time.perf_counter()
        for arch in archs:
            self.step(arch)
        self.place.synchronize()
        return (time.perf_counter() - start) * 1e3 / len(archs)


def smash_trainer(workload, arch, place):
    """The network of all architectures of the space of `arch`."""
    image, hyper, o = workload["image"], workload["hyper"], workload["optimizer"]
    shapes = networks.smash_shapes(arch, hyper, image["channels"], image["classes"])

    def optimizer(params):
        groups = [
            {"params": [p for n, p in params.items() if not n.startswith("hyper.")], "weight_decay": o["decay"]},
            {"params": [p for n, p in params.items() if n.startswith("hyper.")]},
        ]
        return torch.optim.Adam(groups, workload["lr"], (o["beta1"], o["beta2"]), o["epsilon"])

    return Trainer(shapes, lambda *parts: SmashNet(*parts, hyper, place), optimizer, workload, place)


def resulting_trainer(workload, arch, place):
    """The network of this architecture alone."""
    image, norm, o = workload["image"], workload["norm"], workload["optimizer"]
    shapes = networks.resulting_shapes(arch, norm, image["channels"], image["classes"])

    def optimizer(params):
        return torch.optim.SGD(
            params.values(), workload["lr"], o["momentum"], weight_decay=o["decay"], nesterov=True)

    return Trainer(shapes, lambda *parts: ResultingNet(*parts, norm), optimizer, workload, place)


# ------------------------------------------------------------------ requests


def read(file):
    with open(file, encoding="utf-8") as text:
        return json.load(text)


class Peer:
    """Each public method is a request; its named arguments are the request's."""

    def start(self, device, threads, seed, tf32, channels_last):
        """Settings of the process; answers with what it runs on."""
        if threads:
            torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        torch.manual_seed(seed)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        self.place = Place(device, channels_last)
        gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
        return {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "mkldnn": torch.backends.mkldnn.is_available(),
            "cuda": torch.version.cuda if gpu else None,
            "cudnn": torch.backends.cudnn.version() if gpu else None,
            "gpu": gpu,
            "tf32": tf32,
            "threads": torch.get_num_threads(),
            "layout": str(self.place.layout),
            "mode": "eager, float32, default optimisers",
        }

    def workload(self, report, warm_up):
        """What all steps from here on train: settings from the engine's report."""
        self.report = report
        torch.backends.cudnn.benchmark = report["network"] == "resulting"
        if report["network"] == "smash":
            archs = [read(file) for file in warm_up]
            self.trainer = smash_trainer(report, archs[0], self.place)
            for arch in archs:
                self.trainer.alone(arch)

    def smash_steps(self, files, repeat):
        """For each architecture a step when it comes, and if asked once more right after; then all in a row."""
        archs = [read(file) for file in files]
        new, again = [], []
        for arch in archs:
            new.append([self.trainer.alone(arch)])
            if repeat:
                again.append([self.trainer.alone(arch)])
        return {"new": new, "again": again, "row": self.row([archs])}

    def resulting_steps(self, files, steps):
        """For each architecture steps of a network of its own, after the first."""
        again, rows = [], []
        for arch in map(read, files):
            self.trainer = None  # two networks never lie in memory together
            self.trainer = resulting_trainer(self.report, arch, self.place)
            self.trainer.alone(arch)  # makes primitives and momentum, and on a GPU searches for algorithms
            again.append([self.trainer.alone(arch) for _ in range(steps)])
            rows += self.row([[arch] * steps])
        return {"again": again, "row": rows}

    def row(self, sequences):
        """Steps in a row differ from steps alone only where there is a queue."""
        return [self.trainer.in_a_row(archs) for archs in sequences] if self.place.device.type == "cuda" else []

    @torch.no_grad()
    def convolution(self, shape, operation, samples):
        """Milliseconds of one pass of F.conv2d over tensors that are there, for each of `samples` calls."""
        x = self.place.random(shape["n"], shape["c"], *shape["size"])
        w = self.place.random(shape["k"], shape["c"] // shape["groups"], *shape["kernel"])
        dilation, groups = shape["dilation"], shape["groups"]
        padding = networks.same_padding(shape["kernel"], dilation)
        y = F.conv2d(x, w, padding=padding, dilation=dilation, groups=groups)
        gy = self.place.random(*y.shape)

        def gradient(of_x, of_w):
            return torch.ops.aten.convolution_backward(
                gy, x, w, None, [1, 1], padding, dilation, False, [0, 0], groups, [of_x, of_w, False])

        run = {
            "forward": lambda: F.conv2d(x, w, padding=padding, dilation=dilation, groups=groups),
            "backward_data": lambda: gradient(True, False),
            "backward_weight": lambda: gradient(False, True),
        }[operation]
        return {"samples_ms": self.sample(run, samples)}

    def sample(self, run, samples):
        times, begin = [], time.perf_counter()
        for i in range(WARM_UP + samples):
            self.place.synchronize()
            start = time.perf_counter()
            run()
            self.place.synchronize()
            times.append((time.perf_counter() - start) * 1e3)
            if i > WARM_UP and time.perf_counter() - begin > SECONDS:
                break
        return times[WARM_UP:]


def main():
    peer = Peer()
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(peer, request.pop("do"))(**request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
