#!/usr/bin/env python3
"""Runs exported networks in another program on the embedded test set, and compares with the engine.

Called by tools/check-exports.sh in an environment that has this one program:

    check_exports.py images FOLDER          the data set that networks are trained and tested on
    check_exports.py onnx FOLDER...         onnx's checker accepts model.onnx, with strict shapes
    check_exports.py onnxruntime FOLDER...  logits of model.onnx
    check_exports.py torch FOLDER...        logits of model.py with model.safetensors, and that it can be trained
    check_exports.py tune FOLDER FILE       trains it for some steps in PyTorch; its weights and logits, for the engine

FOLDER holds, beside the exported files, what the engine said of them: logits.npy and eval.json, of `smash-engine eval
--network FOLDER --logits FOLDER/logits.npy --json`. Logits have to agree to 1e-4, all predictions and the error exactly.
A line per network on stdout; exit status 1 when one differs. Needs no numpy.
"""

import array
import ast
import gzip
import importlib.util
import json
import struct
import sys
from pathlib import Path

TOLERANCE = 1e-4
BATCH = 250
TRAIN_IMAGES = 2000
TEST_IMAGES = 2000
DATA = Path(__file__).parent.parent / "datasets" / "fashion-mnist-12k"


class Difference(Exception):
    """What another program makes of a network is not what the engine does."""


def idx(name, most=TEST_IMAGES):
    """Extents and bytes of the first images or labels in a gzipped IDX file."""
    data = gzip.decompress((DATA / name).read_bytes())
    axes = data[3]
    count, *extents = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    values = data[4 + 4 * axes :]
    return (most, *extents), values[: len(values) // count * most]


def write_images(folder):
    """Some of the embedded training images, and all test images, as a data set of its own."""
    folder.mkdir()
    for part, most in (("train", TRAIN_IMAGES), ("t10k", TEST_IMAGES)):
        for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
            extents, values = idx(f"{name}.gz", most)
            header = struct.pack(f">BBBB{len(extents)}I", 0, 0, 8, len(extents), *extents)
            (folder / name).write_bytes(header + values)


def batches(count):
    """Sizes of batches: a single image, many, and what is left."""
    many, left = divmod(count - 1, BATCH)
    return [1] + [BATCH] * many + [left]


def npy(path):
    """Rows of a NumPy file of f32."""
    data = path.read_bytes()
    start = 10 + struct.unpack("<H", data[8:10])[0]
    header = ast.literal_eval(data[10:start].decode("latin1"))
    if data[:8] != b"\x93NUMPY\x01\x00" or header["descr"] != "<f4" or header["fortran_order"]:
        raise Difference(f"{path} holds no rows of f32")
    values = array.array("f", data[start:])
    count, width = header["shape"]
    return [list(values[i * width : (i + 1) * width]) for i in range(count)]


def argmax(row):
    return max(range(len(row)), key=row.__getitem__)


def compared(folder, rows):
    """What a program's logits have in common with the engine's, in words."""
    expected = npy(folder / "logits.npy")
    said = json.loads((folder / "eval.json").read_text())
    labels = idx("t10k-labels-idx1-ubyte.gz")[1]
    if [len(row) for row in rows] != [len(row) for row in expected] or len(rows) != len(labels):
        raise Difference(f"{len(rows)} rows of logits, where the engine has {len(expected)}")
    worst = max(abs(a - b) for row, other in zip(rows, expected) for a, b in zip(row, other))
    # A comparison with NaN is false.
    if not worst <= TOLERANCE:
        raise Difference(f"logits are off by {worst:.1e}")
    changed = sum(argmax(row) != argmax(other) for row, other in zip(rows, expected))
    if changed:
        raise Difference(f"{changed} of {len(rows)} predictions are others")
    wrong = sum(argmax(row) != label for row, label in zip(rows, labels))
    error = 100.0 * wrong / len(labels)
    if said["images"] != len(labels) or said["test_err"] != error:
        raise Difference(f"error {error} %, where the engine has {said['test_err']} %")
    return f"logits within {worst:.0e}, {len(rows)} predictions and test error {error:.2f} % the same"


def check_onnx(folder):
    import onnx

    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    opsets = ", ".join(str(opset.version) for opset in model.opset_import)
    return f"accepted, {len(model.graph.node)} nodes, opset {opsets}"


def check_onnxruntime(folder):
    import numpy
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    [name] = [given.name for given in session.get_inputs()]
    (count, height, width), pixels = idx("t10k-images-idx3-ubyte.gz")
    images = numpy.frombuffer(pixels, numpy.uint8).reshape(count, 1, height, width)
    images = images.astype(numpy.float32) / numpy.float32(255)
    rows = []
    for size in batches(count):
        [logits] = session.run(None, {name: images[len(rows) : len(rows) + size]})
        rows += logits.tolist()
    return compared(folder, rows)


def network_of(folder):
    """The module model.py, and its network with weights."""
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.load()


def test_images():
    import torch

    (count, height, width), pixels = idx("t10k-images-idx3-ubyte.gz")
    images = torch.frombuffer(bytearray(pixels), dtype=torch.uint8)
    return images.view(count, 1, height, width).float() / 255


def logits_of(network):
    import torch

    images = test_images()
    with torch.inference_mode():
        parts = images.split(batches(len(images)))
        return [row for batch in parts for row in network.eval()(batch).tolist()]


def trained(network, steps):
    """The network after some steps on test images, whatever these are good for; losses."""
    import torch

    labels = torch.frombuffer(bytearray(idx("t10k-labels-idx1-ubyte.gz")[1]), dtype=torch.uint8).long()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    network.train()
    losses = []
    pairs = zip(test_images().split(50), labels.split(50))
    for _, (images, targets) in zip(range(steps), pairs):
        loss = torch.nn.functional.cross_entropy(network(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    still = [name for name, weight in network.named_parameters() if weight.grad is None]
    if still or not all(loss == loss for loss in losses):
        raise Difference(f"training does not work: losses {losses}, no gradient of {still}")
    return losses


def check_torch(folder):
    module, network = network_of(folder)
    if len(module.CLASSES) != 10:
        raise Difference(f"classes {module.CLASSES}")
    return compared(folder, logits_of(network))


def tune(folder, file):
    """Trains on; writes what the engine is to find as `file`, with logits.npy beside it."""
    import torch
    from safetensors import safe_open

    _, network = network_of(folder)
    losses = trained(network, 8)
    with safe_open(folder / "model.safetensors", "pt") as weights:
        metadata = weights.metadata()
    # The digest of the weights that were.
    metadata.pop("sha256")
    names = {torch.float32: "F32", torch.int64: "I64"}
    # As safetensors.torch.save_file, which needs numpy.
    header, data = {"__metadata__": metadata}, b""
    for key, tensor in network.state_dict().items():
        values = bytes(tensor.contiguous().untyped_storage())
        offsets = [len(data), len(data) + len(values)]
        header[key] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        data += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)
    rows = logits_of(network)
    (file.parent / "torch.json").write_text(json.dumps(rows))
    return f"{len(losses)} steps in PyTorch, loss {losses[0]:.3f} to {losses[-1]:.3f}"


def check_tuned(folder):
    """The engine's logits of a network that PyTorch trained."""
    return compared(folder, json.loads((folder / "torch.json").read_text()))


CHECKS = {
    "onnx": check_onnx,
    "onnxruntime": check_onnxruntime,
    "torch": check_torch,
    "tuned": check_tuned,
}


def main(program, *paths):
    if program == "images":
        write_images(Path(paths[0]))
        return
    if program == "tune":
        print(f"ok    tune         {tune(Path(paths[0]), Path(paths[1]))}")
        return
    failed = 0
    for folder in map(Path, paths):
        try:
            verdict, what = "ok", CHECKS[program](folder)
        except Exception as error:  # Whatever it is, the other networks are checked too.
            verdict, what = "WRONG", f"{type(error).__name__}: {error}"
            failed += 1
        print(f"{verdict:5} {program:12} {folder.name:14} {what}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
