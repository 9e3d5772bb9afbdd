#!/usr/bin/env python3
"""Writes tests/fuzz/corpus: for every parser a few small files, most of them intact.

    tools/make_fuzz_corpus.py

Needs the standard library only. The same files come out every time. The pickles of numpy arrays and
the architectures are copies of those in tests/pickles and tests/golden, the settings those of a run in benches/runs.
"""

import gzip
import io
import json
import math
import pickle
import random
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
CORPUS = TESTS / "fuzz" / "corpus"
STORED_RUN = TESTS.parent / "benches" / "runs" / "2026-11-22-xeon-2core" / "default-run"
CHANCE = random.Random(1)

IDX_NAMES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


def pixels(count):
    """Bytes of few values, so that they pack well."""
    return bytes(CHANCE.choice(b"\0\0\0\x40\xff") for _ in range(count))


def labels(count, first=0):
    return bytes(first + i % 10 for i in range(count))


def idx_images(count, height=4, width=3):
    return struct.pack(">IIII", 0x803, count, height, width) + pixels(count * height * width)


def idx_labels(count):
    return struct.pack(">II", 0x801, count) + labels(count)


def packed(data):
    return gzip.compress(data, mtime=0)


def cifar(count, fine):
    record = lambda i: bytes([i % 20, i % 100]) if fine else bytes([i % 10])
    return b"".join(record(i) + pixels(3072) for i in range(count))


def stl_folds(images=300):
    lines = [[(fold + i * 7) % images for i in range(images // 5)] for fold in range(10)]
    return "".join(" ".join(map(str, line)) + " \n" for line in lines).encode()


def npy(descr, shape, data, version=(1, 0), fortran=False):
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}"
    start = 10 if version[0] == 1 else 12
    text += " " * (-(start + len(text) + 1) % 64) + "\n"
    length = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text.encode("utf-8") + data


def zipped(members, method, zip64=False):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=zip64) as member:
                member.write(data)
    return out.getvalue()


def tarred(members, form=tarfile.USTAR_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def safetensors(metadata, tensors):
    header, data = {"__metadata__": metadata}, b""
    for name, (shape, values) in tensors.items():
        end = len(data) + 4 * len(values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), end]}
        data += struct.pack(f"<{len(values)}f", *values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


# What an exported densenet-7-1 for two classes of pictures of 8 x 8 pixels says of itself.
ABOUT = {
    "format": 1,
    "engine": "0.1.0",
    "design": {"builtin": "densenet-7-1"},
    "norm": "sandwich",
    "shape": {"image_channels": 1, "image_depth": 1, "image_size": 8, "stem_stride": 1, "classes": 2, "stem_kernel": 7},
    "weights": "trained",
    "dtype": "f32",
    "images": {"name": "x", "classes": ["a", "b"], "extent": [1, 1, 7, 8], "mean": [0.5], "std": [0.25], "views": 1},
    "seed": 1,
    "recipe": {
        "epochs": 1,
        "steps": 2,
        "batch": 2,
        "lr": 0.1,
        "optimizer": {"kind": "sgd", "momentum": 0.9, "decay": 0.0001},
        "augment": "none",
        "start": "random numbers",
        "train_images": 4,
        "validation_images": 0,
        "source": "x",
        "split_seed": 1,
        "settings": "",
    },
    "errors": {"test_err": 50.0, "test_images": 2},
}


def network_tensors():
    """The tensors of a densenet-7-1: in each block one layer, which adds a channel."""
    shapes = {"stem.conv.weight": [16, 1, 3, 3], "head.fc.weight": [2, 19], "head.fc.bias": [2]}
    norms = {"head.bn": 19}
    for block in range(3):
        channels = 16 + block
        norms[f"block{block}.layer0.bn0"] = channels
        shapes[f"block{block}.layer0.conv1.weight"] = [1, channels, 3, 3]
        if block < 2:
            norms[f"transition{block}.bn"] = channels + 1
            shapes[f"transition{block}.conv.weight"] = [channels + 1, channels + 1, 1, 1]
    for name, channels in norms.items():
        shapes |= {f"{name}.{what}": [channels] for what in ("weight", "bias", "running_mean", "running_var")}
    return {name: (shape, [0.5] * math.prod(shape)) for name, shape in sorted(shapes.items())}


def network(about, tensors):
    """Without the digest, which a file that another program wrote has not."""
    return safetensors({"format": "pt", "smash_engine": json.dumps(about)}, tensors)


def python_batch(count, fine):
    """What a batch of CIFAR's Python version is; its array is a list here, which no reader takes."""
    keys = ["fine_labels", "coarse_labels"] if fine else ["labels"]
    return {"data": [[0] * 4] * count, "batch_label": "training batch 1 of 5"} | {key: [1] * count for key in keys}


CUBE = """OFF
# a cube
8 6 12
0 0 0\n1 0 0\n1 1 0\n0 1 0\n0 0 1\n1 0 1\n1 1 1\n0 1 1
4 0 1 2 3\n4 4 5 6 7\n4 0 1 5 4\n4 2 3 7 6\n4 1 2 6 5\n4 0 3 7 4
"""

def png(width, height, colour=2, depth=8):
    """A PNG without interlacing; `colour` 0 is grey, 2 RGB, 3 a palette, 4 and 6 have transparency."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    row = (width * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] * depth + 7) // 8
    rows = b"".join(b"\0" + (bytes(i % 2 for i in range(row)) if colour == 3 else pixels(row)) for _ in range(height))
    palette = chunk(b"PLTE", bytes(range(6))) if colour == 3 else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + palette + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def jpeg(grey=True):
    """The smallest baseline JPEG: 8x8 pixels of one level, in one component or three."""
    segment = lambda marker, data: bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data
    components = range(1, 2 if grey else 4)
    # One code each: no difference in the DC table, the end of the block in the AC table.
    table = bytes([1]) + bytes(15) + bytes([0])
    scan = segment(0xDA, bytes([len(components)]) + b"".join(bytes([c, 0]) for c in components) + bytes([0, 63, 0]))
    frame = struct.pack(">BHHB", 8, 8, 8, len(components)) + b"".join(bytes([c, 0x11, 0]) for c in components)
    tables = segment(0xDB, bytes([0]) + bytes([1] * 64)) + segment(0xC0, frame)
    tables += segment(0xC4, bytes([0x00]) + table) + segment(0xC4, bytes([0x10]) + table)
    # Two bits a block, filled up with ones.
    bits = "00" * len(components)
    return b"\xff\xd8" + tables + scan + bytes([int(bits.ljust(8, "1"), 2)]) + b"\xff\xd9"


def voxels():
    """Two views of three objects in two classes; the layout is that of src/data/voxel_file.rs."""
    text = b"shapes\nball\nbox\n"
    header = b"SMASHVOX" + struct.pack("<6I", 1, 32, 2, 2, 1, len(text)) + bytes(32) + text + struct.pack("<3H", 0, 1, 1)
    return header + bytes(-len(header) % 4096) + b"".join(bytes([i]) * 8192 for i in range(3))


SETTINGS = """preset = "v2"
seed = 7

[data]
source = "some/folder"
validation = 0.2

[smash]
batch = 20

[space]
depth = 3
"""


def idx_set():
    return dict(zip(IDX_NAMES, [idx_images(3), idx_labels(3), idx_images(2), idx_labels(2)]))


def cifar_set():
    train = {f"cifar-10-batches-bin/data_batch_{i}.bin": cifar(1, False) for i in range(1, 6)}
    return train | {"cifar-10-batches-bin/test_batch.bin": cifar(1, False)}


def python_set():
    array = (TESTS / "pickles" / "python3-numpy2-protocol4.pickle").read_bytes()
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    return {f"cifar-10-batches-py/{name}": array for name in names}


def imagenet_set():
    batch = {"data.npy": npy("|u1", (2, 3072), pixels(6144)), "labels.npy": npy("<i8", (2,), struct.pack("<qq", 1, 1000))}
    names = [f"train_data_batch_{i}.npz" for i in range(1, 11)] + ["val_data.npz"]
    return {name: zipped(batch, zipfile.ZIP_DEFLATED) for name in names}


def arrays_set():
    x, y = npy("|u1", (3, 4, 4, 3), pixels(144)), npy("<i4", (3,), struct.pack("<3i", 0, 1, 1))
    return {"mine.npz": zipped({"x_train.npy": x, "y_train.npy": y, "x_test.npy": x, "y_test.npy": y}, zipfile.ZIP_STORED)}


def pictures_set():
    places = [(split, kind) for split in ("train", "test") for kind in ("cat", "dog")]
    return {f"pets/{split}/{kind}/{i}.png": png(5, 5) for split, kind in places for i in range(2)} | {
        "pets/train/cat/photo.jpg": jpeg(False)
    }


def volumes_set():
    data = npy("|u1", (2, 1, 32, 32, 32), bytes(2 * 32**3))
    members = {"data.npy": data, "labels.npy": npy("<i8", (2,), struct.pack("<qq", 0, 1))}
    return {f"modelnet10_{split}.npz": zipped(members, zipfile.ZIP_DEFLATED) for split in ("train", "test")}


def off_set():
    return {f"ModelNet10/{kind}/{split}/{kind}_0001.off": CUBE.encode() for kind in ("bed", "chair") for split in ("train", "test")}


def corpus():
    arrays = {
        "x.npy": npy("|u1", (2, 3, 4), pixels(24)),
        "y.npy": npy("<i8", (2,), struct.pack("<qq", 1, 2)),
    }
    stored, deflated = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
    archives = {
        "idx.zip": zipped(idx_set(), deflated),
        "idx_stored.zip": zipped(idx_set(), stored),
        "idx.tar": tarred(idx_set()),
        "idx.tar.gz": packed(tarred(idx_set())),
        "idx_gz.zip": zipped({name + ".gz": packed(data) for name, data in idx_set().items()}, stored),
    }
    return {
        "architecture": {
            f"{case}.json": (TESTS / "golden" / case / "arch.json").read_bytes()
            for case in ("smash_v1", "smash_v2", "resulting_full")
        }
        | {name: (TESTS.parent / "examples/architectures" / name).read_bytes() for name in ("resnet.toml", "two-paths.json")},
        "archive": archives
        | {"pax.tar": tarred(idx_set(), tarfile.PAX_FORMAT), "gnu.tar": tarred({"a/" * 60 + "test.bin": b"abc"}, tarfile.GNU_FORMAT)},
        "checkpoint": {
            "small.safetensors": safetensors(
                {"format": "smash-engine checkpoint 1", "network": "net", "progress": "[1,2]", "sha256": "0" * 64},
                {"params/a": ([2], [1.0, 2.0]), "moment1": ([1], [0.0])},
            )
        },
        "cifar": {"ten.bin": cifar(2, False), "hundred.bin": cifar(1, True)},
        "idx": {
            "images": idx_images(2),
            "labels": idx_labels(3),
            "images.gz": packed(idx_images(2)),
            "two_streams.gz": packed(idx_labels(5)[:8]) + packed(idx_labels(5)[8:]),
        },
        "modelnet": {"meshes.zip": zipped(off_set(), deflated), "volumes.zip": zipped(volumes_set(), stored)},
        "network": {
            "densenet.safetensors": network(ABOUT, network_tensors()),
            "searched.safetensors": network(
                ABOUT | {"design": {"searched": json.loads((TESTS / "golden/smash_v1/arch.json").read_text())}}, {}
            ),
        },
        "npy": {
            "bytes.npy": npy("|u1", (2, 3), pixels(6)),
            "longs.npy": npy("<i8", (3,), struct.pack("<3q", 1, -2, 3)),
            "floats.npy": npy("<f4", (2, 1, 2), struct.pack("<4f", 0, 0.5, 1, float("nan")), (2, 0)),
            "doubles.npy": npy("<f8", (), struct.pack("<d", 1.5), (3, 0)),
            "bools.npy": npy("|b1", (4, 0), b""),
            "swapped.npy": npy(">i2", (2,), bytes(4)),
            "columns.npy": npy("|u1", (2, 3), pixels(6), fortran=True),
        },
        "npz": {
            "stored.npz": zipped(arrays, stored),
            "deflated.npz": zipped(arrays, deflated),
            "long.npz": zipped(arrays, deflated, zip64=True),
        },
        "off": {
            "cube.off": CUBE.encode(),
            "glued.off": CUBE.replace("OFF\n# a cube\n", "OFF").encode(),
            "colours.off": b"COFF\n3 1 0\n0 0 0 255 0 0 255\n1 0 0 0 0 0 0\n0 1 0 1 1 1 1\n3 0 1 2 0.5 0.5 0.5\n",
            "windows.off": CUBE.replace("\n", "\r\n").encode(),
            "four.off": b"4OFF\n1 0 0\n0 0 0 1\n",
        },
        "pickle": {path.name: path.read_bytes() for path in sorted((TESTS / "pickles").glob("*.pickle"))}
        | {f"batch{protocol}.pickle": pickle.dumps(python_batch(2, protocol > 3), protocol) for protocol in range(2, 6)},
        "picture": {
            "colour.png": png(5, 3),
            "grey.png": png(9, 2, 0, 1),
            "palette.png": png(4, 4, 3),
            "deep.png": png(2, 2, 6, 16),
            "grey.jpg": jpeg(),
            "colour.jpg": jpeg(False),
        },
        "set": archives
        | {
            "cifar.tar.gz": packed(tarred(cifar_set())),
            "python.tar": tarred(python_set()),
            "imagenet.zip": zipped(imagenet_set(), stored),
            "arrays.zip": zipped(arrays_set(), stored),
            "pictures.zip": zipped(pictures_set(), stored),
        },
        "settings": {"small.toml": STORED_RUN.joinpath("config.toml").read_bytes(), "few.toml": SETTINGS.encode()},
        "stl": {"folds.txt": stl_folds(), "labels.bin": labels(10, 1), "image.bin": pixels(96 * 96 * 3)},
        "voxels": {"small.voxels": voxels()},
        "zip": {name: data for name, data in archives.items() if name.endswith("zip")}
        | {"long.zip": zipped({"a": b"abc" * 50}, deflated, zip64=True)},
    }


def main():
    for name, files in corpus().items():
        folder = CORPUS / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file, data in files.items():
            (folder / file).write_bytes(data)
    count = sum(1 for path in CORPUS.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file())
    print(f"{count} files, {size} bytes in {CORPUS}")


main()
