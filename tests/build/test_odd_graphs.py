"""Graphs that are legal and that nobody writes: proved, saved and loaded again by plain Keras, or refused by name."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import onnx.parser
import pytest
from checking import outputs
from onnx import helper

import bridge

HEAD = '<ir_version: 8, opset_import: ["": 17]> '
X = "float[N, 4] x"
LONG = "n" * 300

CONVERTED = {
    "an output that is an input": f"g ({X}) => (float[N, 4] x, float[N, 4] y) {{ y = Relu (x) }}",
    "nothing but an input": f"g ({X}) => (float[N, 4] x) {{ }}",
    "an input by another name": f"g ({X}) => (float[N, 4] y) {{ y = Identity (x) }}",
    "an input under two names": f"g ({X}) => (float[N, 4] y, float[N, 4] z) {{ y = Identity (x) z = Identity (y) }}",
    "an input that nobody reads": f"g ({X}, float[N, 3] unread) => (float[N, 4] y) {{ y = Relu (x) }}",
    "a node that nobody reads": f"g ({X}) => (float[N, 4] y) {{ y = Relu (x) z = Exp (x) }}",
    "one value twice": f"g ({X}) => (float[N, 4] y) {{ y = Mul (x, x) }}",
    "one value three times": f"g ({X}) => (float[N, 12] y) {{ y = Concat <axis = 1> (x, x, x) }}",
    "one value as data and as slope": f"g ({X}) => (float[N, 4] y) {{ y = PRelu (x, x) }}",
    "an output that is read": f"g ({X}) => (float[N, 4] y, float[N, 4] z) {{ y = Relu (x) z = Neg (y) }}",
    "outputs in another order": f"g ({X}) => (float[N, 4] z, float[N, 4] y) {{ y = Relu (x) z = Neg (y) }}",
    "a weight that nobody reads": f"g ({X}) => (float[N, 4] y) <float[2] w = {{1, 2}}> {{ y = Relu (x) }}",
    "nothing as output": f"g ({X}) => (float[N, 4] y, float[0, 1] z) <float[1, 1] o = {{2}}, int64[1] a = {{2}}> "
    "{ y = Relu (x) z = Slice (o, a, a) }",
    "nothing along the last axis": f"g ({X}) => (float[N, 4] y, float[1, 0] z) <float[1, 1] o = {{2}}, int64[1] a = {{2}}, "
    "int64[1] l = {1}> { y = Relu (x) z = Slice (o, a, a, l) }",
    "names of Keras": "g (float[N, 4] input) => (float[N, 4] dense) { model = Relu (input) dense = Neg (model) }",
}

NAMES = {
    "of a path": ("a/b", "a/b/c"),
    "that differ in case": ("Relu", "relu"),
    "in other letters": ("größe", "出力"),
    "with spaces and signs": ("a b:0", "-> ?"),
    "of 300 characters": (LONG, LONG + "m"),
    "of digits": ("1", "2"),
    "of Python": ("class", "__init__"),
    "that become one another": ("a.b", "a_b"),
}


def text(source: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD + source)


def proved(model: onnx.ModelProto, folder) -> bridge.Conversion:
    """The conversion, which plain Keras loads again, bit for bit the same."""
    converted = bridge.convert(model)
    assert converted.report.verified
    loaded = keras.models.load_model(converted.save(folder / "model.keras"), safe_mode=True)
    rng = np.random.default_rng(0)
    given = [rng.normal(size=[size or 3 for size in x.shape]).astype(x.dtype) for x in converted.model.inputs]
    for ours, again in zip(*(outputs(model, given) for model in (converted.model, loaded)), strict=True):
        np.testing.assert_array_equal(ours, again)
    assert len(converted.model.inputs) == len(model.graph.input)
    assert len(converted.model.outputs) == len(model.graph.output)
    return converted


@pytest.mark.parametrize("source", CONVERTED.values(), ids=CONVERTED)
def test_converted(source, tmp_path):
    proved(text(source), tmp_path)


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("place", ["values", "nodes", "inputs"])
def test_names(names, place, tmp_path):
    """Of the values between nodes, of the nodes, of inputs and outputs."""
    model = text(
        "g (float[N, 4] x, float[N, 4] z) => (float[N, 4] y, float[N, 4] u) "
        "<float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}> "
        "{ a = MatMul (x, w) b = Add (a, z) y = Relu (b) u = Sigmoid (a) }"
    )
    old = {"values": ("a", "b"), "inputs": ("x", "z"), "nodes": ()}[place]
    renamed = dict(zip(old, names, strict=False))
    for value in model.graph.input:
        value.name = renamed.get(value.name, value.name)
    for number, node in enumerate(model.graph.node):
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.name = names[number % 2] if place == "nodes" else ""  # twice each
    proved(model, tmp_path)


def test_an_output_twice(tmp_path):
    model = text(f"g ({X}) => (float[N, 4] y) {{ y = Relu (x) }}")
    model.graph.output.append(model.graph.output[0])
    proved(model, tmp_path)


def test_an_initializer_as_output(tmp_path):
    model = text(f"g ({X}) => (float[N, 4] y) <float[2] w = {{1, 2}}> {{ y = Relu (x) }}")
    model.graph.output.append(helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [2]))
    constant = proved(model, tmp_path).model(np.zeros((3, 4), np.float32))[1]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(constant), [1, 2])


NO_INPUT = "depends on (no|its) input|has no input"
REFUSED = {
    "no input": lambda: text("g () => (float[2] y) <float[2] w = {1, 2}> { y = Relu (w) }"),
    "no node and no input": lambda: text("g () => (float[2] w) <float[2] w = {1, 2}> { }"),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_refused(make):
    with pytest.raises(bridge.BridgeError, match=NO_INPUT) as caught:
        bridge.convert(make())
    assert not isinstance(caught.value, bridge.InternalError)
