#!/usr/bin/env bash
# Installs nvcc 13.0, which compiles kernels/*.cu, from PyPI into .cuda/, where build.rs finds it.
# About 100 MB of downloads and 270 MB on disk; no driver, no GPU and no administrator needed.
# Who has a CUDA toolkit already needs none of this; README.md lists where build.rs looks.
#
# nvcc runs a host compiler, so g++ must be installed. Running the script again changes nothing;
# to start over or to remove it all: rm -r .cuda
#
# Usage: tools/setup-cuda.sh               PYTHON=python3.12 tools/setup-cuda.sh
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
nvcc=.cuda/nvidia/cu13/bin/nvcc
parts=(nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-crt nvidia-cuda-runtime nvidia-cuda-cccl)

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

install() {
    "$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip (Debian, Ubuntu: apt-get install python3-pip)"
    # Into a folder of its own first: an interrupted download is never mistaken for a compiler.
    rm -rf .cuda/incomplete
    PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps \
        --target .cuda/incomplete "${parts[@]/%/==13.0.*}" || fail "pip could not install ${parts[*]}"
    rm -rf .cuda/nvidia
    mv .cuda/incomplete/nvidia .cuda/nvidia
    rm -rf .cuda/incomplete
}

# A kernel that uses the headers, for the oldest and the newest architecture of a default build.
verify() {
    local scratch
    scratch=$(mktemp -d)
    trap "rm -rf '$scratch'" EXIT
    printf '%s\n' '#include <stdint.h>' \
        'extern "C" __global__ void twice(float* x, uint32_t n) {' \
        '  uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;' \
        '  if (i < n) x[i] *= 2.f;' \
        '}' >"$scratch/twice.cu"
    "$nvcc" -fatbin -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_120,code=sm_120 \
        -o "$scratch/twice.fatbin" "$scratch/twice.cu" || fail "$nvcc cannot compile a small kernel; see above"
    [ -s "$scratch/twice.fatbin" ] || fail "$nvcc wrote no kernel"
}

case $(uname -sm) in
"Linux x86_64" | "Linux aarch64") ;;
*) fail "PyPI has nvcc for Linux on x86-64 and aarch64 only, and this is $(uname -sm)" ;;
esac
command -v g++ >/dev/null || [ -n "${NVCC_CCBIN:-}" ] ||
    fail "nvcc needs g++ (Debian, Ubuntu: apt-get install g++), or NVCC_CCBIN naming another host compiler"

if [ -x "$nvcc" ]; then
    echo "already there: $PWD/$nvcc"
else
    echo "installing nvcc 13.0 into $PWD/.cuda ..."
    install
    # Cargo watches this file: the next build looks for nvcc again.
    touch build.rs
fi
verify
echo "ready: $("$nvcc" --version | sed -n 's/.*, V\([0-9.]*\).*/nvcc \1/p'); \`cargo build --release\` now compiles the kernels"
