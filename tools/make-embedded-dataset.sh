#!/bin/sh
# Makes datasets/fashion-mnist-12k, the set compiled into the binary, from Fashion-MNIST.
#
#   tools/make-embedded-dataset.sh [SOURCE_FOLDER] [TARGET_FOLDER]
#
# SOURCE_FOLDER holds the four official *-ubyte.gz files; the default is where Debian's
# package puts them (apt-get install dataset-fashion-mnist). The choice is the first 1,000
# training and the first 200 test images of each class, in their original order: no random
# numbers, so anybody gets the same bytes. Needs python3 (standard library), gzip, sha256sum.
set -eu

here=$(dirname "$0")
source=${1:-/usr/share/datasets/fashion-mnist}
target=${2:-$here/../datasets/fashion-mnist-12k}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for part in train-images-idx3 train-labels-idx1 t10k-images-idx3 t10k-labels-idx1; do
    gzip -dc "$source/$part-ubyte.gz" >"$scratch/full-$part-ubyte"
done
(
    cd "$scratch"
    sha256sum --check --quiet <<'SUMS'
c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888  full-train-images-idx3-ubyte
bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9  full-train-labels-idx1-ubyte
5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b  full-t10k-images-idx3-ubyte
0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34  full-t10k-labels-idx1-ubyte
SUMS
)
python3 "$here/first_of_each_class.py" "$scratch" train 1000
python3 "$here/first_of_each_class.py" "$scratch" t10k 200

mkdir -p "$target"
for part in train-images-idx3 train-labels-idx1 t10k-images-idx3 t10k-labels-idx1; do
    # -n: no name and no time in the header, so the same pixels give the same file.
    gzip -n9c "$scratch/$part-ubyte" >"$target/$part-ubyte.gz"
done
echo "SHA-256 of the unpacked files (constants in src/data/official.rs, table in datasets/README.md):"
(cd "$scratch" && sha256sum train-*-ubyte t10k-*-ubyte)
