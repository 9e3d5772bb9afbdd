#!/usr/bin/env bash
# Installs PyTorch from PyPI for CPU use: what tools/make_goldens.py runs on into .venv/, or, with TORCH,
# another release, for tools/bench_pytorch.py to compare with the newest.
#
# Nothing in the build or in `cargo test` needs this: the golden numbers are committed. Run it
# only to regenerate or extend them, or to compare.
#
# On x86-64 Linux PyPI has no CPU-only wheel, and `import torch` links the CUDA libraries. For the
# goldens' release we install exactly those that the loader insists on, and leave out triton, cusolver,
# nvrtc, nvtx (loaded lazily, never by this use): about 2.6 GB of downloads instead of 3.0. Another
# release gets all that it asks for. On macOS and on aarch64 Linux the PyPI wheel of 2.6 is a CPU
# wheel, and a plain install does.
#
# Usage: tools/setup-pytorch.sh            PYTHON=python3.12 tools/setup-pytorch.sh
#        TORCH=2.15.0 VENV=/tmp/venv-torch tools/setup-pytorch.sh
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
goldens=2.6.0 # runs on Python 3.9 to 3.13
torch=${TORCH:-$goldens}
venv=${VENV:-.venv}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check)

if [ "$torch-$(uname -s)-$(uname -m)" = "$goldens-Linux-x86_64" ]; then
    # What torch imports besides the CUDA libraries comes first: pip checks a package's wishes only
    # when it resolves, and would complain about the ones left out below.
    "${pip[@]}" "numpy>=1.26,<3" "safetensors>=0.4,<1" \
        typing-extensions filelock fsspec jinja2 networkx sympy==1.13.1
    # Versions are those that torch's own metadata asks for.
    "${pip[@]}" --no-deps "torch==$torch" \
        nvidia-cublas-cu12==12.4.5.8 nvidia-cuda-cupti-cu12==12.4.127 \
        nvidia-cuda-runtime-cu12==12.4.127 nvidia-cudnn-cu12==9.1.0.70 \
        nvidia-cufft-cu12==11.2.1.3 nvidia-curand-cu12==10.3.5.147 \
        nvidia-cusparse-cu12==12.3.1.170 nvidia-cusparselt-cu12==0.6.2 \
        nvidia-nccl-cu12==2.21.5 nvidia-nvjitlink-cu12==12.4.127
else
    "${pip[@]}" "torch==$torch" "numpy>=1.26,<3" "safetensors>=0.4,<1"
fi

"$venv/bin/python" - <<'PY'
import numpy, safetensors, torch
conv = torch.nn.functional.conv2d(torch.ones(1, 1, 3, 3).double(), torch.ones(1, 1, 3, 3).double())
assert conv.item() == 9.0
print(f"torch {torch.__version__}, numpy {numpy.__version__}, safetensors {safetensors.__version__}")
PY
