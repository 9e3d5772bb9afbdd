#!/usr/bin/env bash
# Checks exported networks in other people's programs: onnx's checker accepts them, and onnxruntime and PyTorch, each in
# an environment without the others, make the engine's logits, predictions and error on the embedded test
# set. A network that PyTorch trained further comes back to the engine, and files that are damaged or no networks are
# refused.
#
# Nothing in the engine needs this or Python. Two minutes of CPU and, the first time, installing from PyPI: on
# x86-64 Linux 3 GB are downloaded and 5.5 GB stored, nearly all of it CUDA libraries that PyTorch brings along (its
# wheels for macOS have none); leaving out the unused ones makes the installation 10 s shorter.
#
# Usage: tools/check-exports.sh              PYTHON=python3.12 tools/check-exports.sh
#        SMASH=path/to/smash-engine tools/check-exports.sh        with a program that is built already
#        TORCH=torch==2.6.0 ONNXRUNTIME=... ONNX=... tools/check-exports.sh        with other versions
# Needs python3 with venv. The environments stay in .venvs/, each until other versions are asked for; to start over:
# rm -r .venvs
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
    [ "$(cat "$venvs/$name/complete" 2> /dev/null)" = "$*" ] && return
    rm -rf "${venvs:?}/$name"
    "$python" -m venv "$venvs/$name"
    "$venvs/$name/bin/python" -m pip install --quiet --no-cache-dir --no-compile --disable-pip-version-check "$@"
    echo "$*" > "$venvs/$name/complete"
}
environment onnx "${ONNX:-onnx==1.23.2}"
environment onnxruntime "${ONNXRUNTIME:-onnxruntime==1.32.0}"
environment torch "${TORCH:-torch==2.15.0}" "safetensors==0.8.0"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Networks are to be the same everywhere, not good: some of the training images are enough.
"$python" tools/check_exports.py images "$work/images"
cat > "$work/settings.toml" <<TOML
preset = "small"

[data]
source = "$work/images"
validation = 0.5

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
# Everything that a search may be given more, and weight normalisation.
{
    echo 'stem_stride = 2'
    sed 's/^\[retrain\]/&\nnorm = "weightnorm"/' "$work/settings.toml"
    echo 'activation = "post"'
    echo 'nonlinearities = ["relu", "tanh", "sigmoid"]'
    echo 'gates = true'
    echo 'body_norm = true'
} > "$work/options.toml"

# searched NAME: a run with a trained network
searched() {
    local name=$1
    "${smash[@]}" train --out "$work/$name-run" --config "$work/$name.toml" > /dev/null
    "${smash[@]}" search --out "$work/$name-run" > /dev/null
    "${smash[@]}" retrain --out "$work/$name-run" > /dev/null
}
searched settings
searched options
builtin=(wrn-10-1 resnet-8 densenet-7-4 fractalnet-2-2)
for network in "${builtin[@]}"; do
    "${smash[@]}" retrain --out "$work/settings-run" --network "$network" > /dev/null
done

# exported NAME RUN FLAG..: an export, and what the engine says of it
folders=()
exported() {
    local folder=$work/$1 run=$work/$2-run
    shift 2
    "${smash[@]}" export --out "$run" --to "$folder" "$@" > /dev/null
    "${smash[@]}" eval --network "$folder" --logits "$folder/logits.npy" --json > "$folder/eval.json"
    folders+=("$folder")
}
exported searched settings
exported folded settings --fold-batchnorm
exported f16 settings --dtype f16
exported bf16 settings --dtype bf16 --fold-batchnorm
for network in "${builtin[@]}"; do
    exported "$network" settings --network "$network" --fold-batchnorm
done
exported options options
exported weightnorm options --dtype bf16
winner=$(ls "$work"/settings-run/arch/*.json)
exported generated settings --arch "$winner"
exported generated-bf16 settings --arch "$winner" --dtype bf16

status=0
check() {
    local environment=$1
    shift
    "$venvs/$environment/bin/python" -W ignore tools/check_exports.py "$@" || status=1
}
check onnx onnx "${folders[@]}"
check onnxruntime onnxruntime "${folders[@]}"
check torch torch "${folders[@]}"

# There and back.
tuned=$work/tuned
check torch tune "$work/searched" "$tuned/model.safetensors"
"${smash[@]}" eval --network "$tuned" --logits "$tuned/logits.npy" --json > "$tuned/eval.json"
check torch tuned "$tuned"

# refused WHAT COMMAND..: the engine says in one line what is wrong, and exits with 3
refused() {
    local what=$1 code=0 lines
    shift
    "${smash[@]}" "$@" > /dev/null 2> "$work/said" || code=$?
    lines=$(wc -l < "$work/said")
    if [ "$code" = 3 ] && [ "$lines" = 1 ]; then
        echo "ok    refused      $what"
    else
        echo "WRONG refused      $what: exit status $code, $lines lines: $(cat "$work/said")"
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
    refused "$file.safetensors" eval --network "$work/$file.safetensors"
done
foreign=$work/foreign.safetensors
refused "predict with a foreign file" predict "$foreign" tests/fuzz/corpus/picture/grey.png
retrain=(retrain --out "$work/refused" --config "$work/settings.toml")
refused "retrain --arch with a foreign file" "${retrain[@]}" --arch "$foreign"
refused "retrain --init-from with a foreign file" "${retrain[@]}" --network wrn-10-1 --init-from "$foreign"
exit $status
