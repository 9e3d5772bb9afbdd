#!/usr/bin/env python3
"""Tables for tools/gpu-check.sh, from files that the engine and ncu wrote.

    gpu_tables.py compare GPU CPU          metrics.jsonl of one run on both devices
    gpu_tables.py launches CSV JSON        kernels by time: ncu's CSV, and `bench step` without ncu
    gpu_tables.py slowest CSV N            names of the N kernels that take the most time
"""

import csv
import json
import statistics
import sys
from collections import defaultdict

# Losses of one step, which starts from equal weights: rounding only.
FIRST_LOSS = 1e-3
NANOSECONDS = {"ns": 1, "nsecond": 1, "us": 1e3, "usecond": 1e3, "ms": 1e6, "msecond": 1e6, "s": 1e9, "second": 1e9}


def compare(gpu, cpu):
    """Training losses side by side; exit code 1 when the first ones differ."""
    gpu, cpu = ([json.loads(line) for line in open(path)] for path in (gpu, cpu))
    print(f"{'network':14} {'step':>6} {'':10} {'GPU':>10} {'CPU':>10} {'difference':>11}")
    first = {}
    for a, b in zip(gpu, cpu):
        if (a["network"], a["step"]) != (b["network"], b["step"]):
            break  # the searches found different winners
        kind = "val_err" if "val_err" in a else "train_loss"
        difference = abs(a[kind] - b[kind]) / max(abs(b[kind]), 1e-9)
        if kind == "train_loss":
            first.setdefault(a["network"], difference)
        if kind == "val_err" or a["step"] in (1, 2, 5, 10, 20, 50, 100):
            print(f"{a['network']:14} {a['step']:6} {kind:10} {a[kind]:10.5f} {b[kind]:10.5f} {difference:11.1e}")
    worst = max(first.values(), default=1.0)
    print(f"first losses differ by {worst:.1e} of their size at most, allowed {FIRST_LOSS:.0e}")
    sys.exit(worst > FIRST_LOSS)


def kernel_times(path):
    """Kernel -> nanoseconds of each of its launches, from `ncu --csv`."""
    with open(path, newline="") as file:
        lines = [line for line in file if line.startswith('"')]  # not ncu's own messages
    times = defaultdict(list)
    for row in csv.DictReader(lines):
        if row["Metric Name"] == "gpu__time_duration.sum":
            value = float(row["Metric Value"].replace(",", ""))
            times[row["Kernel Name"].split("(")[0]].append(value * NANOSECONDS[row["Metric Unit"]])
    if not times:
        sys.exit(f"{path}: ncu has seen no kernel")
    return dict(sorted(times.items(), key=lambda item: -sum(item[1])))


def launches(path, step):
    """Kernels by time, and how much of a step the GPU has none to run."""
    times = kernel_times(path)
    total = sum(map(sum, times.values()))
    print(f"{'kernel':44} {'launches':>8} {'ms':>9} {'%':>5} {'median us':>10} {'longest us':>11}")
    for name, each in times.items():
        print(f"{name:44} {len(each):8} {sum(each) / 1e6:9.3f} {100 * sum(each) / total:5.1f} "
              f"{statistics.median(each) / 1e3:10.1f} {max(each) / 1e3:11.1f}")
    report = json.load(open(step))
    row = statistics.median(report["row_ms_per_step"])
    print(f"kernels of one step: {sum(map(len, times.values()))}, {total / 1e6:.3f} ms; steps in a row take {row:.3f} ms "
          f"each, so the GPU is idle for {100 * (1 - total / 1e6 / row):.0f} % of the time")


def main():
    what, *rest = sys.argv[1:] or [""]
    if what == "compare" and len(rest) == 2:
        compare(*rest)
    elif what == "launches" and len(rest) == 2:
        launches(*rest)
    elif what == "slowest" and len(rest) == 2:
        print(*list(kernel_times(rest[0]))[: int(rest[1])], sep="\n")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
