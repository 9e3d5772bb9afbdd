#!/usr/bin/env bash
# Checks exported networks in other people's programs: onnx's checker accepts them, and onnxruntime and PyTorch, each in
# an environment without the others, make the engine's logits, predictions and error on the embedded test set. A
# network that PyTorch trained further comes back to the engine, and files that are damaged or no networks are refused.
#
# Nothing in the engine needs this or Python. Two minutes of CPU and, the first time, installing from PyPI: on x86-64
# Linux 3 GB are downloaded and 5.5 GB stored, nearly all of it CUDA libraries that PyTorch brings along (its wheels for
# macOS have none); leaving out the unused ones makes the installation 10 s shorter.
#
# Usage: tools/check-exports.sh              PYTHON=python3.12 tools/check-exports.sh
#        SMASH=path/to/smash-engine tools/check-exports.sh        with a program that is built already
#        TORCH=torch==2.6.0 ONNXRUNTIME=... ONNX=... tools/check-exports.sh        with other versions
# Needs python3 with venv. The environments stay in .venvs/; to start over: rm -r .venvs
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
venvs=.venvs
if [ -z "${SMASH:-}" ]; then
    cargo build --release --locked
    SMASH=target/release/smash-engine
fi
smash=("$SMASH" --quiet --device cpu)

# environment NAME PACKAGE..
environment() {
    local name=$1
    shift
    [ -e "$venvs/$name/complete" ] && return
    rm -rf "${venvs:?}/$name"
    "$python" -m venv "$venvs/$name"
    "$venvs/$name/bin/python" -m pip install --quiet --no-cache-dir --no-compile --disable-pip-version-check "$@"
    touch "$venvs/$name/complete"
}
environment onnx "${ONNX:-onnx==1.23.2}"
environment onnxruntime "${ONNXRUNTIME:-onnxruntime==1.32.0}"
environment torch "${TORCH:-torch==2.15.0}" "safetensors==0.8.0"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/settings.toml" <<'TOML'
preset = "small"

[data]
validation = 0.7

[smash]
epochs = 1
batch = 50

[search]
random = 4
perturb = 0
markov = 0

[retrain]
epochs = 1
batch = 50

[hyper]
stem = 4
layers = [2, 2, 1]
growth = 4

[space]
n_max = 24
max_bank_size = 4
depth = 3
TOML

# A trained network of the search, one with generated weights, built-in ones; in 32 and 16 bits.
run=$work/run
"${smash[@]}" train --out "$run" --config "$work/settings.toml" --max-steps 30 > /dev/null
"${smash[@]}" search --out "$run" > /dev/null
"${smash[@]}" retrain --out "$run" > /dev/null
"${smash[@]}" retrain --out "$run" --network wrn-10-1 > /dev/null
"${smash[@]}" retrain --out "$run" --network resnet-8 > /dev/null
winner=$(ls "$run"/arch/*.json)

# exported NAME FLAG..: an export, and what the engine says of it
exported() {
    local folder=$work/$1
    shift
    "${smash[@]}" export --out "$run" --to "$folder" "$@" > /dev/null
    "${smash[@]}" eval --network "$folder" --logits "$folder/logits.npy" --json > "$folder/eval.json"
}
exported searched
exported folded --fold-batchnorm
exported f16 --dtype f16
exported bf16 --dtype bf16 --fold-batchnorm
exported generated --arch "$winner"
exported wrn --network wrn-10-1
exported resnet --network resnet-8 --fold-batchnorm

status=0
check() {
    local environment=$1
    shift
    "$venvs/$environment/bin/python" -W ignore tools/check_exports.py "$@" || status=1
}
folders=("$work"/{searched,folded,f16,bf16,generated,wrn,resnet})
check onnx onnx "${folders[@]}"
check onnxruntime onnxruntime "${folders[@]}"
check torch torch "${folders[@]}"

# There and back.
tuned=$work/tuned
check torch tune "$work/searched" "$tuned/model.safetensors"
"${smash[@]}" eval --network "$tuned" --logits "$tuned/logits.npy" --json > "$tuned/eval.json"
check torch tuned "$tuned"

# refused NAME: the engine says in one line what is wrong with $work/NAME, and exits with 3
refused() {
    local code=0 lines
    "${smash[@]}" eval --network "$work/$1" > /dev/null 2> "$work/said" || code=$?
    lines=$(wc -l < "$work/said")
    if [ "$code" = 3 ] && [ "$lines" = 1 ]; then
        echo "ok    refused      $1"
    else
        echo "WRONG refused      $1: exit status $code, $lines lines: $(cat "$work/said")"
        status=1
    fi
}
weights=$work/searched/model.safetensors
head -c 5000 "$weights" > "$work/cut.safetensors"
head -c -1 "$weights" > "$work/short.safetensors"
{ head -c -1 "$weights" && printf '\377'; } > "$work/changed.safetensors"
: > "$work/empty.safetensors"
cp "$work/searched/model.onnx" "$work/onnx.safetensors"
printf '\030\0\0\0\0\0\0\0{"__metadata__":{}}     ' > "$work/foreign.safetensors"
for file in cut short changed empty onnx foreign; do
    refused "$file.safetensors"
done
exit $status
