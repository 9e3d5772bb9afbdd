#!/usr/bin/env bash
# What each kernel takes of a multiprocessor, from the compiler's reports on the last build that had
# nvcc: registers per thread, bytes of static shared memory per block, and bytes of stack and of spilled
# registers per thread. Fails when a kernel spills, or when there is nothing to report.
#
# Usage: tools/kernel-registers.sh [LOG]     CARGO_TARGET_DIR is respected
set -euo pipefail
cd "$(dirname "$0")/.."

log=${1:-${CARGO_TARGET_DIR:-target}/kernel-cache/last-build.log}
[ -f "$log" ] || {
    echo "error: no $log: SMASH_REQUIRE_NVCC=1 cargo build --release compiles the kernels" >&2
    exit 1
}
sed -n '1s/^# //p' "$log"
printf '%-44s %6s %9s %6s %5s %6s\n' kernel arch registers shared stack spills
# The report has one group of lines per kernel and architecture; functions that were not inlined follow
# with a line of their own for stack and spills.
awk '
    /Compiling entry function/ { split($0, part, "\047"); name = part[2]; arch = part[4]; stack = spills = 0 }
    /bytes stack frame/ { if ($1 > stack) stack = $1; spills += $5 + $9 }
    /Used [0-9]+ registers/ {
        shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART, RLENGTH) + 0 : 0
        match($0, /Used [0-9]+/)
        printf "%-44s %6s %9d %6d %5d %6d%s\n", name, arch, substr($0, RSTART + 5), shared, stack, spills,
            spills ? "  <- spills" : ""
    }
' "$log" | sort -b -k1,1 -k2b,2V | awk '
    { print; rows++; if (/<- spills$/) bad++ }
    END {
        if (!rows) { print "error: the log names no kernel" > "/dev/stderr"; exit 1 }
        if (bad) { printf "error: %d of %d spill\n", bad, rows > "/dev/stderr"; exit 1 }
    }
'
