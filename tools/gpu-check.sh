#!/usr/bin/env bash
# Checks and measures everything on a machine with a GPU; a table with one line per step at the end.
#
# Usage: tools/gpu-check.sh [GROUP or STEP ...]          default: fast
#   fast      facts info selftest tests short            is everything right?
#   sanitize  memcheck racecheck                         compute-sanitizer on the self-test
#   training  run-gpu run-cpu compare train-v2           the embedded images; GPU against CPU
#   bench     kernels step step-tf32 resulting step-small pytorch pytorch-resulting
#   profile   launches ncu                               kernels by time; the slowest in detail
#   all       all of these, in this order
#
# It runs what tools/gpu-bundle.sh has put into gpu-pack/, from inside it or from the repository. Each
# step (tools/gpu-steps.sh) has a time limit and a log; one that fails or hangs does not stop the
# others. A step whose tool is missing (nvidia-smi, compute-sanitizer, ncu, PyTorch) is `absent`. No
# setting of the GPU is changed.
#
# Into $OUT (default: gpu-results/), refreshed after every step:
#   table.md          step, verdict, seconds, last words
#   results.tar.gz    logs, JSON files with all samples, profiles
# Exit code 1 when a step failed or ran out of time.
#
# GPU_CHECK_DEVICE=cuda:0; GPU_CHECK_SCALE=2 doubles all time limits;
# GPU_CHECK_QUICK=1 takes tiny settings, to try the script where kernels are emulated
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
pack=$root
[ -x "$pack/bin/smash-engine" ] || pack=$root/gpu-pack
[ -x "$pack/bin/smash-engine" ] || { echo "no programs in $pack/bin; tools/gpu-bundle.sh makes them" >&2; exit 2; }
out=${OUT:-$root/gpu-results}
mkdir -p "$out"
out=$(cd "$out" && pwd)

# Steps of each group, with their time limits in seconds.
declare -A group=(
    [fast]="facts:60 info:60 selftest:240 tests:300 short:120"
    [sanitize]="memcheck:300 racecheck:300"
    [training]="run-gpu:240 run-cpu:300 compare:20 train-v2:240"
    [bench]="kernels:180 step:90 step-tf32:90 resulting:90 step-small:60 pytorch:240 pytorch-resulting:180"
    [profile]="launches:240 ncu:300"
)
group[all]="${group[fast]} ${group[sanitize]} ${group[training]} ${group[bench]} ${group[profile]}"

steps=()
for name in "${@:-fast}"; do
    if [ -n "${group[$name]:-}" ]; then
        read -ra more <<<"${group[$name]}"
    else
        more=()
        for step in ${group[all]}; do [ "${step%:*}" = "$name" ] && more=("$step"); done
        [ ${#more[@]} -gt 0 ] || { sed -n '4,10s/^# //p' "$0" >&2; echo "no step or group $name" >&2; exit 2; }
    fi
    steps+=("${more[@]}")
done

WORK=$(mktemp -d)
export WORK PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
trap 'rm -rf "$WORK"' EXIT
cd "$pack"

verdict_of() {
    case $1 in
    0) echo ok ;;
    77) echo absent ;;
    124 | 137) echo "OUT OF TIME" ;;
    *) echo "FAILED ($1)" ;;
    esac
}

# What there is so far: the machine may go away at any time.
save() {
    { echo "| step | verdict | seconds | last words |"; echo "|---|---|---|---|"; cat "$WORK/rows"; } >"$out/table.md"
    tar -czf "$out/results.new" -C "$WORK" --exclude=ckpt --exclude=target --exclude=rows . && mv "$out/results.new" "$out/results.tar.gz"
}

failed=0
for entry in "${steps[@]}"; do
    step=${entry%:*}
    limit=$((${entry#*:} * ${GPU_CHECK_SCALE:-1}))
    log=$WORK/$step.log
    echo "=== $step (at most $limit s)"
    start=$SECONDS
    timeout --kill-after=10 "$limit" bash tools/gpu-steps.sh "$step" >"$log" 2>&1
    code=$?
    verdict=$(verdict_of "$code")
    [[ $verdict = ok || $verdict = absent ]] || failed=1
    tail -n 40 "$log"
    words=$(grep -av '^[[:space:]]*$' "$log" | tail -n 1 | tr '|' '/' | cut -c 1-100)
    echo "| $step | $verdict | $((SECONDS - start)) | $words |" >>"$WORK/rows"
    save
done
echo
cat "$out/table.md"
exit $failed
