#!/usr/bin/env bash
# The experiments whose results the README discusses, on the embedded images, at sizes that two cores finish within an
# hour: does the score predict the error after training, does the HyperNet read the encoding, do SMASH networks agree?
#
#     tools/experiments.sh FOLDER [PROGRAM]
#
# An interrupted run is continued by the same command. What is worth keeping of the outcome (reports, figures, numbers)
# is copied to FOLDER/summary.
set -euo pipefail

folder=${1:?name a folder for the results}
program=${2:-target/release/smash-engine}
started=$(date +%s)

experiment() {
    local name=$1
    shift
    "$program" experiment "$name" --out "$folder/$name" --resume "$@"
    mkdir -p "$folder/summary/$name"
    cp -r "$folder/$name"/{report.md,report.html,results.json,figures,config.toml,env.json,timing.json} "$folder/summary/$name/"
}

# 26 of 130 architectures are trained, each twice for 3 epochs.
experiment correlation --epochs 15 --architectures 130 --every 5 --seeds 2 --retrain-epochs 3
# The same SMASH network reads 60 of them with every kind of wrong encoding.
experiment encoding --from "$folder/correlation/smash/base" --architectures 60
# It is compared with two more seeds, a crippled HyperNet, and one with more learned weights.
experiment stability --from "$folder/correlation/smash/base" --architectures 130 --trained "$folder/correlation"

echo "all experiments: $((($(date +%s) - started) / 60)) min" | tee "$folder/summary/time.txt"
