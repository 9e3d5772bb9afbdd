"""Writes tests/golden/onnx.onnx and onnx.json: a model with every operator that exports have, as the onnx package writes
it, and what the package's reference implementation finds for every value of it.

    python3 -m venv /tmp/onnx && /tmp/onnx/bin/pip install onnx==1.23.2
    /tmp/onnx/bin/python tools/golden_onnx.py

The tests decode it with the engine's own messages, encode it again to the same bytes, and run it in the interpreter
that exports are tested with. Sizes differ pairwise, and every attribute differs from its default.
"""

import json
import pathlib

import ml_dtypes
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

GOLDEN = pathlib.Path(__file__).parent.parent / "tests" / "golden"
rng = np.random.default_rng(1)


def weight(name, *dims, dtype=np.float32, least=-1.0):
    return numpy_helper.from_array(rng.uniform(least, 1.0, dims).astype(dtype), name)


def integers(name, *numbers):
    return numpy_helper.from_array(np.array(numbers, np.int64), name)


WEIGHTS = [
    integers("pads", 0, 0, 1, 2, 0, 0, 2, 1),
    weight("mean", 1, 2, 1, 1),
    weight("std", 1, 2, 1, 1, least=0.5),
    weight("w0", 6, 1, 3, 5, dtype=np.float16),
    weight("b0", 6),
    weight("gamma", 6),
    weight("beta", 6),
    weight("running_mean", 6),
    weight("running_var", 6, least=0.2),
    weight("w1", 4, 3, 3, 1, dtype=ml_dtypes.bfloat16),
    integers("starts", 1, 0),
    integers("ends", 6, 7),
    integers("axes", 3, 2),
    integers("steps", 2, 3),
    weight("fc", 5, 14),
    weight("bias", 5),
    weight("volumes.w", 4, 1, 3, 1, 3),
]
SPREAD = {"epsilon": 0.25}
NODES = [
    ("Pad", ["images", "pads"], "padded", {}),
    ("Sub", ["padded", "mean"], "centred", {}),
    ("Div", ["centred", "std"], "normalised", {}),
    ("Cast", ["w0"], "w0_f32", {"to": TensorProto.FLOAT}),
    (
        "Conv",
        ["normalised", "w0_f32", "b0"],
        "conv0",
        {"dilations": [2, 1], "group": 2, "kernel_shape": [3, 5], "pads": [2, 3, 1, 2], "strides": [1, 1]},
    ),
    ("BatchNormalization", ["conv0", "gamma", "beta", "running_mean", "running_var"], "bn", SPREAD),
    ("Relu", ["bn"], "relu", {}),
    ("LeakyRelu", ["bn"], "leaky", {"alpha": 0.2}),
    ("Tanh", ["bn"], "tanh", {}),
    ("Sigmoid", ["leaky"], "sigmoid", {}),
    ("Mul", ["tanh", "sigmoid"], "gate", {}),
    ("Add", ["gate", "relu"], "sum", {}),
    ("Mean", ["sum", "leaky", "bn"], "mean_of_all", {}),
    ("Cast", ["w1"], "w1_f32", {"to": TensorProto.FLOAT}),
    (
        "Conv",
        ["mean_of_all", "w1_f32"],
        "conv1",
        {"dilations": [1, 1], "group": 2, "kernel_shape": [3, 1], "pads": [1, 0, 1, 0], "strides": [2, 3]},
    ),
    ("Slice", ["relu", "starts", "ends", "axes", "steps"], "sliced", {}),
    ("MaxPool", ["gate"], "largest", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("AveragePool", ["largest"], "averages", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("GlobalAveragePool", ["conv1"], "means1", {}),
    ("GlobalAveragePool", ["averages"], "means2", {}),
    (
        "Conv",
        ["volumes", "volumes.w"],
        "volumes.conv",
        {
            "dilations": [2, 1, 1],
            "group": 1,
            "kernel_shape": [3, 1, 3],
            "pads": [2, 0, 1, 2, 0, 1],
            "strides": [1, 1, 1],
        },
    ),
    ("AveragePool", ["volumes.conv"], "volumes.pooled", {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}),
    ("GlobalAveragePool", ["volumes.pooled"], "means3_5d", {}),
    ("Flatten", ["means3_5d"], "means3", {"axis": 1}),
    ("Concat", ["means1", "means2"], "means", {"axis": 1}),
    ("Flatten", ["means"], "flat", {"axis": 1}),
    ("Concat", ["flat", "means3"], "row", {"axis": 1}),
    ("Gemm", ["row", "fc", "bias"], "logits", {"transB": 1}),
]


def main():
    nodes = [helper.make_node(op, inputs, [output], name=f"a/{output}", **sorted_(attributes))
             for op, inputs, output, attributes in NODES]
    floats = TensorProto.FLOAT
    inputs = [
        helper.make_tensor_value_info("images", floats, ["N", 2, 5, 4]),
        helper.make_tensor_value_info("volumes", floats, ["N", 1, 4, 6, 2]),
    ]
    outputs = [helper.make_tensor_value_info("logits", floats, ["N", 5])]
    between = [helper.make_tensor_value_info("padded", floats, ["N", 2, 8, 7])]
    graph = helper.make_graph(nodes, "golden", inputs, outputs, WEIGHTS, value_info=between)
    model = helper.make_model(
        graph,
        ir_version=7,
        opset_imports=[helper.make_opsetid("", 14)],
        producer_name="onnx",
        producer_version="1",
        model_version=3,
        doc_string="every operator",
    )
    helper.set_model_props(model, {"classes": "[]"})
    checker.check_model(model, full_check=True)
    (GOLDEN / "onnx.onnx").write_bytes(model.SerializeToString(deterministic=True))

    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(node.output[0], floats, None) for node in nodes)
    feeds = {
        "images": rng.uniform(0.0, 1.0, (2, 2, 5, 4)).astype(np.float32),
        "volumes": rng.uniform(0.0, 1.0, (2, 1, 4, 6, 2)).astype(np.float32),
    }
    found = ReferenceEvaluator(model).run(None, feeds)
    values = feeds | {node.output[0]: value for node, value in zip(nodes, found)}
    # The shortest digits that tell a float32 from others.
    digits = {name: [float(str(x)) for x in value.ravel()] for name, value in values.items()}
    lists = {name: {"dims": value.shape, "data": digits[name]} for name, value in values.items()}
    lines = ",\n".join(f'"{name}": {json.dumps(value, separators=(",", ":"))}' for name, value in lists.items())
    (GOLDEN / "onnx.json").write_text("{\n" + lines + "\n}\n")


def sorted_(attributes):
    return dict(sorted(attributes.items()))


main()
