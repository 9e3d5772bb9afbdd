#!/usr/bin/env bash
# One step of tools/gpu-check.sh, which says what they are: `gpu-steps.sh NAME`, in the folder of the
# pack, with WORK, a folder for results. Exit code 77: a tool is not there.
set -uo pipefail

device=${GPU_CHECK_DEVICE:-cuda:0}
tables=(python3 tools/gpu_tables.py)
kernels=(--rounds 15)
v2=(--preset v2 --count 12 --rounds 7)
small=(--preset small --count 12 --rounds 7)
one=(--preset v2 --count 1)
pytorch=(--preset v2 --count 8 --rounds 5 --steps 5)
short=(--preset small --epochs 1)
run=(run --preset small)
long=(--preset v2 --epochs 100 --max-steps 1500)
tests=(--skip data::) # they look for files where they were built
selftest=()
if [ -n "${GPU_CHECK_QUICK:-}" ]; then
    kernels=(--quick --rounds 1 -k '*d(1,1) g1*')
    one=(--preset small --count 1 --batch 2 --size 8)
    v2=("${one[@]}" --rounds 1)
    small=("${v2[@]}")
    pytorch=("${v2[@]}" --steps 1)
    short=(--preset small --max-steps 2 --batch 2)
    run=(train "${short[@]}") # a search would take hours
    long=("${short[@]}")
    tests=(ops::add ops::sgd)
    selftest=(--only add)
fi

have() { command -v "$1" >/dev/null || { echo "$1 is not installed"; exit 77; }; }

self_test() { # file for the results, before which a tool
    "${@:2}" bin/smash-engine selftest --device "$device" --out "$WORK/$1" ${selftest[@]+"${selftest[@]}"}
}

step() { # JSON file, options
    bin/smash-engine bench step "${@:2}" --device "$device" --save "$WORK/$1"
}

with_pytorch() { # network, JSON file
    local there='import sys, torch; sys.exit(sys.argv[1] != "cpu" and not torch.cuda.is_available())'
    python3 -c "$there" "$device" 2>/dev/null || { echo "PyTorch is not here, or finds no GPU"; exit 77; }
    python3 tools/bench_pytorch.py "${pytorch[@]}" --network "$1" --device "$device" --engine "bin/smash-engine bench step" \
        --archs "$WORK/pytorch-archs" --json "$WORK/$2"
}

# ncu over one step of one architecture, with the options given; clocks stay as they are.
profiled() {
    ncu --clock-control none --cache-control none --profile-from-start off "$@" \
        bin/smash-engine bench step "${one[@]}" --profile --device "$device" --archs "$WORK/one"
}

training() { # device, folder, command and settings
    bin/smash-engine "${@:3}" --device "$1" --seed 1 --verbose --out "$WORK/$2"
}

case $1 in
facts)
    cat manifest.txt
    uname -srm
    grep -m 1 'model name' /proc/cpuinfo
    echo "$(nproc) cores, $(ldd --version | head -n 1)"
    have nvidia-smi
    nvidia-smi && nvidia-smi --format=csv \
        --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit,ecc.mode.current
    ;;
info) bin/smash-engine info --device "$device" ;;
selftest) self_test selftest.txt ;;
tests)
    # A GPU that does not open must not pass for the emulator.
    [[ -n ${GPU_CHECK_QUICK:-} ]] || export SMASH_REQUIRE_GPU=1
    CARGO_TARGET_DIR=$WORK/target bin/lib-test --test-threads=1 "${tests[@]}"
    ;;
short) training "$device" short train "${short[@]}" ;;
memcheck | racecheck)
    have compute-sanitizer
    self_test "selftest-$1.txt" compute-sanitizer --tool "$1" --error-exitcode 9
    ;;
run-gpu) training "$device" run-gpu "${run[@]}" ;;
run-cpu) training cpu run-cpu "${run[@]}" ;;
compare) "${tables[@]}" compare "$WORK/run-gpu/metrics.jsonl" "$WORK/run-cpu/metrics.jsonl" ;;
train-v2) training "$device" train-v2 train "${long[@]}" ;;
kernels) bin/smash-engine bench kernels "${kernels[@]}" --device "$device" --save "$WORK/kernels.json" ;;
step) step step.json "${v2[@]}" --gaps --archs "$WORK/v2" ;;
step-tf32) step step-tf32.json "${v2[@]}" --gaps --conv fast --archs "$WORK/v2" ;;
step-small) step step-small.json "${small[@]}" --gaps --archs "$WORK/small" ;;
resulting) step resulting.json "${v2[@]}" --network resulting --archs "$WORK/v2" ;;
pytorch) with_pytorch smash pytorch.json ;;
pytorch-resulting) with_pytorch resulting pytorch-resulting.json ;;
launches)
    have ncu
    profiled --csv --log-file "$WORK/launches.csv" --metrics gpu__time_duration.sum &&
        step one.json "${one[@]}" --rounds 5 --score 0 --archs "$WORK/one" &&
        "${tables[@]}" launches "$WORK/launches.csv" "$WORK/one.json"
    ;;
ncu)
    have ncu
    slowest=$("${tables[@]}" slowest "$WORK/launches.csv" 6) || exit
    for kernel in $slowest; do
        echo "== $kernel"
        profiled --set full --import-source yes --kernel-name "$kernel" --launch-count 2 \
            --force-overwrite --export "$WORK/ncu-$kernel" &&
            ncu --import "$WORK/ncu-$kernel.ncu-rep" --page details || exit
    done
    ;;
*) echo "no step $1"; exit 2 ;;
esac
