#!/usr/bin/env bash
# Looks for files that a parser does not survive.
#
#   tools/fuzz.sh [SECONDS [PARSER ...]]
#
# SECONDS for each parser (60 unless said), all of them unless some are named; tests/fuzz/Cargo.toml
# lists them. Needs cargo-fuzz (`cargo install cargo-fuzz`) and a nightly compiler. Starts from
# tests/fuzz/corpus; what it learns goes to .data/fuzz, a file that breaks a parser to tests/fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
parsers=${*:-$(ls tests/fuzz/corpus)}

for parser in $parsers; do
    mkdir -p ".data/fuzz/$parser"
    # No file of the corpus justifies half a gigabyte in one piece.
    SMASH_NO_NVCC=1 cargo +nightly fuzz run --fuzz-dir tests/fuzz "$parser" ".data/fuzz/$parser" "tests/fuzz/corpus/$parser" -- \
        -max_total_time="$seconds" -max_len=65536 -malloc_limit_mb=512 -print_final_stats=1
done
