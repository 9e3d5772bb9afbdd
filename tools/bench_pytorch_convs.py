#!/usr/bin/env python3
"""Measures single convolutions of this engine and of PyTorch, pass by pass, in one run.

    python3 tools/bench_pytorch_convs.py --engine 'smash-engine bench kernels' --json convs.json

The engine's benchmark `kernels` says which shapes there are: those of its JSON with the op `conv2d`
or `pointwise`. Round after round it and PyTorch, each a process of its own, measure all of them, with 1
thread and with all cores, in float32, PyTorch in both its layouts.

In favour of PyTorch: it runs the bare F.conv2d or one gradient of it, on tensors and filters that lie
contiguous. The engine's numbers hold more: filters are windows of larger ones, a convolution applies
the ReLU before it (its gradient the mask), a pointwise one reads several banks where they lie, for which
PyTorch would need a concatenation, and gradients are added to what is there.

FLOP count taps that fall on padding; who skips them can go beyond 100 % of the peak, which the engine
measures with independent multiply-adds. A ratio is PyTorch's median time over the engine's, in a round.
"""

import argparse
import json
import os
import re
import shlex
import statistics
import sys
from pathlib import Path

from bench_pytorch import (
    SETTINGS, PyTorch, clock, engine_command, machine, markdown, run_engine, shown, spread, warn_of_load,
)

DEFAULT_ENGINE = "cargo run --release --quiet -- bench kernels"
OPS = ["conv2d", "pointwise"]
LAYOUTS = ["default", "channels-last"]
WHO = ["engine", *LAYOUTS]
CONV2D = re.compile(r"(\d+)->(\d+) (\d+)x(\d+)(?: d\((\d+),(\d+)\) g(\d+))? (\d+)x(\d+) n(\d+)")
POINTWISE = re.compile(r"(\d+)x(\d+)->(\d+) (\d+)x(\d+) n(\d+)")


def shape_of(case):
    """The convolution that a case of the engine's JSON names."""
    if case["op"] == "pointwise":
        views, c, k, h, w, n = map(int, POINTWISE.fullmatch(case["shape"]).groups())
        return {"c": views * c, "k": k, "kernel": [1, 1], "dilation": [1, 1], "groups": 1, "size": [h, w], "n": n}
    c, k, r, s, *dilated, h, w, n = (int(number or 1) for number in CONV2D.fullmatch(case["shape"]).groups())
    return {"c": c, "k": k, "kernel": [r, s], "dilation": dilated[:2], "groups": dilated[2], "size": [h, w], "n": n}


def measure(args, threads):
    """Cases with the samples of each round, the peak in GFLOP/s, and what all sides say of themselves."""
    peers = {layout: PyTorch(device="cpu", threads=threads, seed=1, **SETTINGS[layout]) for layout in LAYOUTS}
    cases, peaks = {}, []
    for number in range(args.rounds):
        print(f"{clock()} threads {threads}: round {number + 1} of {args.rounds}", file=sys.stderr)
        for op in OPS:
            options = ["--device", "cpu", "--threads", threads, "--rounds", args.samples, "-k", op]
            report, _ = run_engine(args.engine, options)
            peaks.append(max(report["ceilings"]["fma_gflops"]))
            for found in report["cases"]:
                if found["op"] == op:
                    facts = {key: found[key] for key in ["op", "pass", "shape", "flop"]}
                    case = cases.setdefault(tuple(facts.values()), facts | {"samples_ms": {who: [] for who in WHO}})
                    case["samples_ms"]["engine"].append(found["samples_ms"])
        for case in cases.values():
            asked = {"shape": shape_of(case), "operation": case["pass"], "samples": args.samples}
            for layout, peer in peers.items():
                case["samples_ms"][layout].append(peer.ask("convolution", **asked)["samples_ms"])
    for peer in peers.values():
        peer.end()
    return {"threads": threads, "fma_gflops": max(peaks), "pytorch": [peer.facts for peer in peers.values()],
            "engine": {"version": report["version"], "device": report["device"]}, "cases": list(cases.values())}


def judge(case, peak):
    """Adds medians, shares of the peak, and PyTorch's ratios with their spread over the rounds."""
    medians = {who: [statistics.median(times) for times in rounds] for who, rounds in case["samples_ms"].items()}
    case["median_ms"] = {who: statistics.median(rounds) for who, rounds in medians.items()}
    case["gflops"] = {who: case["flop"] / ms / 1e6 for who, ms in case["median_ms"].items()}
    case["of_peak"] = {who: gflops / peak for who, gflops in case["gflops"].items()}
    case["times_the_engines_time"] = {}
    for layout in LAYOUTS:
        rounds = [theirs / ours for theirs, ours in zip(medians[layout], medians["engine"], strict=True)]
        case["times_the_engines_time"][layout] = {"of_each_round": rounds, **spread(rounds)}


def table(measured):
    head = [f"{who}: ms, GFLOP/s, % of peak" for who in WHO] + [f"times {layout}" for layout in LAYOUTS]
    rows = [["op, pass and shape", *head]]
    for case in measured["cases"]:
        speeds = [(case["median_ms"][who], case["gflops"][who], 100 * case["of_peak"][who]) for who in WHO]
        rows.append([f"{case['op']} {case['pass']} {case['shape']}",
                     *(f"{ms:.3f}, {gflops:.0f}, {percent:.0f}" for ms, gflops, percent in speeds),
                     *(shown(ratio) for ratio in case["times_the_engines_time"].values())])
    return f"### Threads: {measured['threads']}, peak {measured['fma_gflops']:.0f} GFLOP/s\n\n{markdown(rows)}\n"


def main():
    parser = argparse.ArgumentParser(description="Compare single convolutions with PyTorch on the CPU.")
    parser.add_argument("--engine", default=DEFAULT_ENGINE, help="command of `kernels`; default: %(default)s")
    all_cores = os.cpu_count()
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, all_cores}), help="default: 1, all cores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=11, help="of each side in each round")
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    args = parser.parse_args()
    if min(args.threads + [args.rounds, args.samples]) < 1:
        parser.error("no number may be less than 1")
    args.engine = engine_command(args.engine, parser)
    facts = machine()
    warn_of_load(facts)
    done = []
    for threads in args.threads:
        measured = measure(args, threads)
        for case in measured["cases"]:
            judge(case, measured["fma_gflops"])
        print(table(measured))
        done.append(measured)
    print(f"engine {done[0]['engine']['version']} and PyTorch {done[0]['pytorch'][0]['torch']} on {facts['cpu']}")
    if args.json:
        args.json.write_text(json.dumps({
            "benchmark": "pytorch convolutions", "comparison": __doc__, "engine_command": shlex.join(args.engine),
            "machine": facts, "measured": done,
        }, indent=1) + "\n")


if __name__ == "__main__":
    main()
