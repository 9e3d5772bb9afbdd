#!/usr/bin/env python3
"""Measures training steps of this engine and of eager PyTorch on the same architectures, in one run.

    python3 tools/bench_pytorch.py --engine 'smash-engine bench step' --json pytorch.json
    python3 tools/bench_pytorch.py --device cuda:0 --preset v2 --network smash

The engine draws the architectures and writes them as files. Then both take turns, a few architectures
at a time, so that whatever slows the machine down slows both. Each side is a process of its own,
measured from outside: the engine's benchmark `step`, started anew for each turn, and pytorch_peer.py,
which lives as long as its workload and sleeps while the engine works. Threads are equal.

A workload is a preset and a kind of network, and its step is 50 images forward, loss, backward and
update. A SMASH network sees another architecture every step; PyTorch's step is timed when the
architecture comes (`new`: its primitives are yet to be made, as in training) and, in the first round,
once more right after (`again`: cached, as never happens in training). A resulting network keeps its
architecture, so all its steps are `again`.

Where in doubt, PyTorch is favoured: its images lie normalised on the device and are neither cropped
nor mirrored, its encoding is built in one piece, and parameters that an architecture does not use
are not updated. It is measured in its default layout and with everything channels last, which its
manual advises for convolutions and which is the faster of the two on a CPU; on a GPU with and
without TF32 as well, and cuDNN searches for algorithms where the architecture stays. It runs eagerly,
with its default allocator and optimisers: to compile a network takes longer than the step it is for.

A ratio is PyTorch's time over the engine's, of one architecture in one round. `peak` is the largest
resident set of a process over its life, the program and its libraries included; what `import torch`
takes is said beside it, as it is larger for PyTorch built with CUDA, which is what PyPI has for Linux.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEFAULT_ENGINE = "cargo run --release --quiet -- bench step"
PEER = Path(__file__).with_name("pytorch_peer.py")
# PyTorch as a user may set it up.
SETTINGS = {
    "default": {"channels_last": False, "tf32": False},
    "channels-last": {"channels_last": True, "tf32": False},
    "default-tf32": {"channels_last": False, "tf32": True},
    "channels-last-tf32": {"channels_last": True, "tf32": True},
}


# ------------------------------------------------------------------ the two sides


def peak_of(process):
    """Waits for a process; the most bytes that it, or a process it waited for, had in memory."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_engine(command, options):
    """Runs a benchmark of the engine; its JSON, and the peak of its memory."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        words = [str(word) for word in [*command, *options, "--format", "json"]]
        process = subprocess.Popen(words, stdout=out, stderr=err)
        peak = peak_of(process)
        out.seek(0), err.seek(0)
        if process.returncode:
            raise SystemExit(f"{shlex.join(words)} failed:\n{err.read().decode(errors='replace')}")
        return json.loads(out.read()), peak


class PyTorch:
    """A process of pytorch_peer.py."""

    def __init__(self, **settings):
        self.process = subprocess.Popen(
            [sys.executable, str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = self.ask("start", **settings)
        self.imported = self.resident()

    def ask(self, what, **details):
        try:
            self.process.stdin.write(json.dumps({"do": what, **details}) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            raise SystemExit(f"PyTorch's process ended in {what}; what it said is above") from None

    def resident(self):
        """Bytes in memory now; None where there is no /proc."""
        status = Path(f"/proc/{self.process.pid}/status")
        if not status.exists():
            return None
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if "VmRSS" in line)

    def end(self):
        """Ends the process; the peak of its memory in bytes."""
        self.process.stdin.close()
        return peak_of(self.process)


# ------------------------------------------------------------------ measuring


def draw(args, preset, folder):
    """Has the engine fill an empty folder with architectures, on tiny pictures as nothing is timed; its files."""
    if not any(folder.glob("*.json")):
        tiny = ["--rounds", 1, "--batch", 1, "--size", 4]
        run_engine(args.engine, engine_options(args, preset, "smash", folder) + ["--count", args.count, *tiny])
    return sorted(folder.glob("*.json"))


def engine_options(args, preset, network, folder):
    options = ["--device", args.device, "--preset", preset, "--network", network, "--archs", folder]
    options += ["--seed", args.seed, "--score", 0]
    return options + (["--threads", args.threads] if args.device == "cpu" else ["--conv", args.conv])


class Workload:
    """One preset and kind of network, measured: samples of both sides, and their memory."""

    def __init__(self, args, preset, network, folder):
        self.args, self.preset, self.network = args, preset, network
        files = draw(args, preset, folder)
        if network == "resulting":
            files = files[:args.resulting]
        self.files, self.steps = files, args.steps if network == "resulting" else 1
        self.engine, self.archs, self.peak = None, {}, {"engine": 0}
        # Series -> architecture -> a list of samples for each round, in milliseconds.
        self.samples = {"engine": {}}
        self.rows = {"engine": []}  # per step in a row
        common = {"device": args.device, "threads": args.threads, "seed": args.seed}
        self.peers = {name: PyTorch(**common, **SETTINGS[name]) for name in args.pytorch}
        self.imported = {name: peer.imported for name, peer in self.peers.items()}

    def measure(self):
        """All rounds; whoever starts a round or turn, the other starts the next."""
        turns = [self.files[i : i + self.args.turn] for i in range(0, len(self.files), self.args.turn)]
        for number in range(self.args.rounds):
            for i, turn in enumerate(turns):
                print(f"{clock()} {self.title()}: round {number + 1} of {self.args.rounds}, "
                      f"turn {i + 1} of {len(turns)}", file=sys.stderr)
                # The very first is the engine's, whose report tells PyTorch what to train.
                order = [self.engine_turn, self.pytorch_turn][:: 1 if (number + i) % 2 == 0 else -1]
                for side in order:
                    side(number, turn)
        self.peak |= {name: peer.end() for name, peer in self.peers.items()}

    def add(self, series, files, samples):
        """Keeps the samples of a turn; there are none of what was not measured."""
        kept = self.samples.setdefault(series, {})
        for file, times in zip(files, samples):
            kept.setdefault(file.name, []).append(times)

    def engine_turn(self, _, files):
        with tempfile.TemporaryDirectory() as folder:
            for file in files:
                shutil.copy(file, folder)
            options = engine_options(self.args, self.preset, self.network, folder)
            options += ["--rounds", self.steps, "--batch", self.args.batch, "--size", self.args.size]
            report, peak = run_engine(self.args.engine, options)
        self.add("engine", files, [arch["samples_ms"] for arch in report["archs"]])
        self.rows["engine"] += report["row_ms_per_step"]
        self.peak["engine"] = max(self.peak["engine"], peak)
        self.archs |= {arch["file"]: arch for arch in report["archs"]}
        if self.engine is None:
            self.engine = report
            for peer in self.peers.values():
                # The last architectures: when their turn comes, PyTorch's cache has long forgotten them.
                peer.ask("workload", report=report, warm_up=[str(file) for file in self.files[-2:]])

    def pytorch_turn(self, number, files):
        names = [str(file) for file in files]
        for name, peer in self.peers.items():
            if self.network == "smash":
                answer = peer.ask("smash_steps", files=names, repeat=number == 0)
                self.add(f"{name}, new", files, answer["new"])
            else:
                answer = peer.ask("resulting_steps", files=names, steps=self.steps)
            self.add(f"{name}, again", files, answer["again"])
            self.rows.setdefault(name, []).extend(answer["row"])

    # -------------------------------------------------------------- results

    def ratios(self, series):
        """PyTorch's time over the engine's in the same round: of each architecture, of each round, and over all."""
        engine, theirs = self.samples["engine"], self.samples[series]
        median = statistics.median
        each = {file: [median(t) / median(e) for t, e in zip(theirs[file], engine[file])] for file in theirs}
        return {
            "of_medians": self.median_ms(series) / self.median_ms("engine"),
            "of_each_arch": {file: median(rounds) for file, rounds in each.items()},
            "of_each_round": [median(rounds) for rounds in zip(*each.values())],
            **spread([ratio for rounds in each.values() for ratio in rounds]),
        }

    def arch_ms(self, series, file):
        return statistics.median(ms for times in self.samples[series][file] for ms in times)

    def median_ms(self, series):
        """Median over the architectures."""
        return statistics.median(self.arch_ms(series, file) for file in self.samples[series])

    def title(self):
        return f"{self.preset} {self.network}"

    def table(self):
        """Markdown: a line for each architecture."""
        found = {series: self.ratios(series)["of_each_arch"] for series in self.samples if series != "engine"}
        rows = [["architecture", "GFLOP", "engine, ms", *(f"PyTorch {series}, ms (times)" for series in found)]]
        for file, arch in sorted(self.archs.items()):
            theirs = [f"{self.arch_ms(series, file):.1f} ({times[file]:.2f})" for series, times in found.items()]
            rows.append([f"{Path(file).stem} {arch['id']}", f"{arch['flop_per_step'] / 1e9:.0f}",
                         f"{self.arch_ms('engine', file):.1f}", *theirs])
        return f"### {self.title()}\n\n{markdown(rows)}"

    def speed(self):
        """Rows of the table of speed, one for each of PyTorch's series."""
        rows = []
        for series in self.samples:
            if series == "engine":
                continue
            ratio, rate = self.ratios(series), [f"{self.median_gflops(who):.0f}" for who in ["engine", series]]
            rows.append([
                self.title(), series, f"{self.median_ms('engine'):.1f}", f"{self.median_ms(series):.1f}", *rate,
                shown(ratio), ", ".join(f"{r:.2f}" for r in ratio["of_each_round"]), f"{ratio['of_medians']:.2f}",
            ])
        for name, theirs in self.rows.items():
            if name == "engine" or not theirs:
                continue
            ours = self.rows["engine"]
            ms = [f"{statistics.median(each):.1f}" for each in [ours, theirs]]
            rows.append([self.title(), f"{name}, in a row", *ms, "", "", shown(spread(self.row_ratios(name))), "", ""])
        return rows

    def median_gflops(self, series):
        """Median over the architectures; padding counted, the HyperNet not."""
        return statistics.median(
            self.archs[file]["flop_per_step"] / self.arch_ms(series, file) / 1e6 for file in self.archs)

    def row_ratios(self, name):
        return [theirs / ours for theirs, ours in zip(self.rows[name], self.rows["engine"], strict=True)]

    def memory(self):
        """Rows of the table of memory, one for each of PyTorch's processes."""
        ours = self.peak["engine"]
        return [[self.title(), name, megabytes(ours), megabytes(self.peak[name]), megabytes(imported),
                 percent(ours, self.peak[name]), "?" if imported is None else percent(ours, self.peak[name] - imported)]
                for name, imported in self.imported.items()]

    def json(self):
        return {
            "preset": self.preset,
            "network": self.network,
            "engine": {key: value for key, value in self.engine.items() if key not in ["archs", "row_ms_per_step"]},
            "pytorch": {name: peer.facts for name, peer in self.peers.items()},
            "archs": [{key: arch[key] for key in ["id", "file", "params", "flop_per_step"]}
                      for _, arch in sorted(self.archs.items())],
            "samples_ms": self.samples,
            "row_ms_per_step": self.rows,
            "median_ms": {series: self.median_ms(series) for series in self.samples},
            "times_the_engines_time": {series: self.ratios(series) for series in self.samples if series != "engine"},
            "peak_resident_bytes": self.peak,
            "resident_bytes_after_import": self.imported,
        }


# ------------------------------------------------------------------ shared with bench_pytorch_convs.py


def clock():
    """Time of day, for progress."""
    return time.strftime("%H:%M:%S")


def spread(values):
    """Median and the values that a fifth of all lie below and above."""
    if len(values) == 1:
        return {"median": values[0], "p20": values[0], "p80": values[0]}
    fifths = statistics.quantiles(values, n=5, method="inclusive")
    return {"median": statistics.median(values), "p20": fifths[0], "p80": fifths[-1]}


def shown(ratio):
    return f"**{ratio['median']:.2f}** ({ratio['p20']:.2f} to {ratio['p80']:.2f})"


def markdown(rows):
    """A table, aligned; the first row is its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def megabytes(size):
    return "?" if size is None else f"{size / 1e6:.0f}"


def percent(part, whole):
    return f"{100 * part / whole:.0f} %"


def machine():
    """What the numbers hold for; other work on the machine shows in its load."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), cpu)
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.platform(), "load_before": os.getloadavg()[0]}


def warn_of_load(facts):
    if facts["load_before"] > 0.5:
        print(f"warning: something else runs on this machine (load {facts['load_before']:.1f}), "
              "which slows PyTorch's spinning threads more than the engine's", file=sys.stderr)


def engine_command(text, parser):
    command = shlex.split(text)
    if not command or shutil.which(command[0]) is None:
        parser.error(f"--engine: {text!r} is no program")
    return command


def arguments():
    parser = argparse.ArgumentParser(description="Compare training steps with eager PyTorch.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N, for both")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU, for both; default: all cores")
    parser.add_argument("--engine", default=DEFAULT_ENGINE, help="command of `step`; default: %(default)s")
    parser.add_argument("--preset", nargs="+", default=["v2", "v1"], choices=["v1", "v2", "small"])
    parser.add_argument("--network", nargs="+", default=["smash", "resulting"], choices=["smash", "resulting"])
    parser.add_argument("--archs", type=Path, help="folder to keep the architectures in, or to take them from if there")
    parser.add_argument("--count", type=int, default=24, help="architectures to draw for a preset")
    parser.add_argument("--resulting", type=int, default=4, help="of these, how many to build resulting networks of")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="times that each architecture is measured")
    parser.add_argument("--turn", type=int, default=6, help="architectures in one turn of one side")
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a resulting network in each round")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--pytorch", nargs="+", choices=list(SETTINGS), help="default: all that the device has")
    parser.add_argument("--conv", default="exact", choices=["exact", "fast"], help="engine on a GPU: f32 or with TF32")
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    args = parser.parse_args()
    for name in ["threads", "count", "resulting", "rounds", "turn", "steps", "batch", "size"]:
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    args.engine = engine_command(args.engine, parser)
    has_tf32 = args.device != "cpu"
    args.pytorch = args.pytorch or [name for name, setting in SETTINGS.items() if has_tf32 or not setting["tf32"]]
    return args


def report(args, facts, done):
    """Everything measured so far, for programs."""
    settings = {key: getattr(args, key) for key in ["device", "threads", "seed", "rounds", "turn", "batch", "size"]}
    return {
        "benchmark": "pytorch", "comparison": __doc__, "engine_command": shlex.join(args.engine), "machine": facts,
        "settings": settings, "workloads": [workload.json() for workload in done],
    }


def main():
    args, facts = arguments(), machine()
    warn_of_load(facts)
    done = []
    with tempfile.TemporaryDirectory() as folder:
        for preset in args.preset:
            for network in args.network:
                workload = Workload(args, preset, network, (args.archs or Path(folder)) / preset)
                workload.measure()
                done.append(workload)
                print(workload.table() + "\n")
                if args.json:
                    args.json.write_text(json.dumps(report(args, facts, done), indent=1) + "\n")
    speed = ["workload", "PyTorch", "engine, ms", "PyTorch, ms", "engine, GFLOP/s", "PyTorch, GFLOP/s",
             "times (p20 to p80)", "each round", "of medians"]
    print(f"### Medians over the architectures\n\n{markdown([speed, *(row for w in done for row in w.speed())])}\n")
    memory = ["workload", "PyTorch", "engine, MB", "PyTorch, MB", "of it by its import, MB", "engine's share",
              "share without import"]
    print(f"### Peak of resident memory\n\n{markdown([memory, *(row for w in done for row in w.memory())])}\n")
    engine, torch = done[0].engine, next(iter(done[0].peers.values())).facts["torch"]
    print(f"engine {engine['version']} ({engine['arithmetic']}) and PyTorch {torch} on {facts['cpu']}, "
          f"threads: {args.threads}, {args.batch} images of {args.size} x {args.size}")


if __name__ == "__main__":
    main()
