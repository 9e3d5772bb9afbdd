#!/usr/bin/env bash
# Builds everything that tools/gpu-check.sh runs into gpu-pack/, for a machine that has a GPU and its
# driver but no Rust and no network.
#
# Usage: tools/gpu-bundle.sh                       kernels for Hopper (compute capability 9.0)
#        SMASH_CUDA_ARCHS=80,90 tools/gpu-bundle.sh
#
# Needs cargo and nvcc (tools/setup-cuda.sh). Copy gpu-pack/ to the other machine and start
# gpu-pack/tools/gpu-check.sh there.
set -euo pipefail
cd "$(dirname "$0")/.."

export SMASH_CUDA_ARCHS=${SMASH_CUDA_ARCHS:-90}
export SMASH_REQUIRE_NVCC=${SMASH_REQUIRE_NVCC:-1} # 0: to try the scripts on the emulator
export SMASH_LINEINFO=${SMASH_LINEINFO:-1}         # source lines in compute-sanitizer and ncu
[ "$SMASH_REQUIRE_NVCC" = 1 ] || unset SMASH_REQUIRE_NVCC
pack=gpu-pack
most=$((48 << 20)) # bytes

rm -rf "$pack"
mkdir -p "$pack/bin"

# Name in the pack, and the file cargo made, of each program.
programs() {
    python3 -c '
import json, sys
names = {("bin", "smash-engine", False): "smash-engine", ("lib", "smash_engine", True): "lib-test"}
for line in sys.stdin:
    message = json.loads(line)
    if message.get("reason") == "compiler-artifact" and message.get("executable"):
        key = message["target"]["kind"][0], message["target"]["name"], message["profile"]["test"]
        if key in names:
            print(names[key], message["executable"])
'
}
cargo build --release --locked --bins --lib --tests \
    --message-format=json-render-diagnostics >"$pack/messages"
programs <"$pack/messages" >"$pack/programs"
rm "$pack/messages"
while read -r name file; do
    strip -s -o "$pack/bin/$name" "$file"
done <"$pack/programs"
rm "$pack/programs"
for name in smash-engine lib-test; do
    [ -x "$pack/bin/$name" ] || { echo "cargo made no $name" >&2; exit 1; }
done

# What the programs and scripts read there: sources for the profiler (and for the tests, should they run
# on the emulator), networks for PyTorch.
mkdir -p "$pack/tools"
cp tools/gpu-check.sh tools/gpu-steps.sh tools/gpu_tables.py tools/bench_pytorch.py tools/pytorch_peer.py tools/golden_archs.py tools/golden_networks.py "$pack/tools/"
cp -r kernels "$pack/"
{
    echo "commit $(git describe --always --dirty --abbrev=12)"
    echo "built $(date -u +%Y-%m-%dT%H:%MZ) with $(rustc --version) for SMASH_CUDA_ARCHS=$SMASH_CUDA_ARCHS"
    echo "needs glibc $(for file in "$pack"/bin/*; do objdump -T "$file"; done |
        grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1 | sed 's/GLIBC_//') or newer"
} >"$pack/manifest.txt"

cat "$pack/manifest.txt"
ls -l "$pack/bin" | awk 'NR > 1 { printf "%10d  %s\n", $5, $9 }'
size=$(du -sb "$pack" | cut -f 1)
echo "gpu-pack: $size bytes"
[ "$size" -lt "$most" ] || { echo "gpu-pack is larger than $most bytes" >&2; exit 1; }
