"""ONNX's own suite: every case of every operator, run as the Keras model it becomes.

`onnx_suite_reasons.toml` says of each case that is left out why: it is refused by name, or it is known to differ.
One that passes after all is an error there.
The cases give the weights of a layer as inputs; where the layer exists, they are run a second time with weights.
"""

import fnmatch
import random
import tomllib
import warnings
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases
from tensorflow.errors import InvalidArgumentError

from bridge import BridgeError, UnsupportedError
from bridge.backend import prepare, run_node, supports_device
from bridge.graph.functions import DOMAIN
from bridge.ops import find
from bridge.ops.contract import Kind

REASONS = tomllib.loads(Path(__file__).with_name("onnx_suite_reasons.toml").read_text())
PATTERNS = {
    pattern: pytest.mark.xfail(
        reason=reason, strict=True, raises=UnsupportedError if how == "refused" else None
    )
    for how, reasons in REASONS.items()
    for reason, patterns in reasons.items()
    for pattern in patterns
}


def _cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name.removeprefix("test_"): case for case in collect_testcases(None)}


CASES = _cases()


def _has_weights(case):
    builders = [
        find(node.domain, node.op_type) or find(DOMAIN, node.op_type) for node in case.model.graph.node
    ]
    return any(p.kind is Kind.EITHER for builder in builders if builder for p in builder.inputs)


RUNS = [(name, False) for name in CASES] + [
    (name, True) for name, case in CASES.items() if _has_weights(case) and "expanded" not in name
]
IDS = {f"{name}-weights" if weights else name: (name, weights) for name, weights in RUNS}


def _speaks_of(pattern, key):
    return ("expanded" in pattern) == ("expanded" in key) and fnmatch.fnmatchcase(key, pattern)


def _parameters():
    """Each run with its marks; the bodies of functions, written out, are the slow half, and casts by another's type are
    casts."""
    for key, run in IDS.items():
        marks = [mark for pattern, mark in PATTERNS.items() if _speaks_of(pattern, key)][:1]
        yield pytest.param(
            *run, id=key, marks=marks + [pytest.mark.slow] * ("expanded" in key or "castlike" in key)
        )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "weights"), list(_parameters()))
def test_case(name, weights):
    case = CASES[name]
    model = prepare(case.model, weights=weights)
    for inputs, outputs in case.data_sets:
        for given, wanted in zip(model.run([_array(value) for value in inputs]), outputs, strict=True):
            _assert_close(given, _array(wanted), case.rtol, case.atol)


KERAS_ERRORS = (ValueError, InvalidArgumentError)
CONVERTED = [name for name in CASES if not any(_speaks_of(pattern, name) for pattern in PATTERNS)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CONVERTED)
def test_unknown_sizes(name):
    """A case whose inputs have no known size gives the same numbers or none, never other ones."""
    case, model, free = _copy(name)
    for value in [*free, *model.graph.output]:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.dim_param = f"{value.name}_{axis}"
    inputs, outputs = case.data_sets[0]
    try:
        results = prepare(model).run([_array(value) for value in inputs])
    except (BridgeError, *KERAS_ERRORS) as error:  # refused by us, or by Keras at these sizes
        pytest.skip(f"none: {error}")
    for given, wanted in zip(results, outputs, strict=True):
        _assert_close(given, _array(wanted), case.rtol, case.atol)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", ["channels last", "reversed"])
@pytest.mark.parametrize("name", [name for name in CONVERTED if "expanded" not in name])
def test_any_order_of_axes(name, order):
    """A case whose inputs are stored in another order, which a Transpose before it states, gives the same numbers."""
    case, model, free = _copy(name)
    stored = {}
    for value in free:
        dims = value.type.tensor_type.shape.dim
        if len(dims) > 1:
            axes = list(range(len(dims)))
            axes = [0, *axes[2:], 1] if order == "channels last" and len(axes) > 2 else axes[::-1]
            stored[value.name] = axes
            sizes = [dim.dim_value for dim in dims]
            for dim, axis in zip(dims, axes, strict=True):
                dim.dim_value = sizes[axis]
            back = [axes.index(axis) for axis in range(len(axes))]
            transpose = onnx.helper.make_node("Transpose", [f"{value.name}_stored"], [value.name], perm=back)
            model.graph.node.insert(0, transpose)
            value.name = f"{value.name}_stored"
    names = [value.name for value in case.model.graph.input]
    inputs, outputs = case.data_sets[0]
    arrays = [_array(value) for value in inputs]
    given = [
        a.transpose(stored[name]) if name in stored else a for name, a in zip(names, arrays, strict=False)
    ]
    for result, wanted in zip(prepare(model).run(given), outputs, strict=True):
        _assert_close(result, _array(wanted), case.rtol, case.atol)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(random.Random(0).sample(CONVERTED, 300)))
def test_saved_and_loaded(name, tmp_path):
    """A sample of the cases, whose Keras models give the same numbers, bit for bit, when they were read from a file."""
    case = CASES[name]
    whole = prepare(case.model)
    inputs = [_array(value) for value in case.data_sets[0][0]]
    wanted = whole.run(inputs)
    for key, model in whole.models.items():
        model.save(tmp_path / "model.keras")
        whole.models[key] = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    for given, want in zip(whole.run(inputs), wanted, strict=True):
        _assert_close(given, want, 0, 0)


def _copy(name):
    """A case, a copy of its model to change, and those inputs of the copy that are no constants of the plan."""
    case = CASES[name]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    del model.graph.value_info[:]
    fixed = prepare(case.model).fixed
    return case, model, [value for value in model.graph.input if value.name not in fixed]


def _array(value):
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _assert_close(given, wanted, rtol, atol):
    if isinstance(wanted, list):  # a sequence
        for part, want in zip(given, wanted, strict=True):
            _assert_close(part, want, rtol, atol)
        return
    wanted = np.asarray(wanted)
    assert given.dtype == wanted.dtype
    assert given.shape == wanted.shape
    if wanted.dtype.kind not in "biufc":  # bfloat16
        given, wanted = given.astype("float32"), wanted.astype("float32")
    np.testing.assert_allclose(given, wanted, rtol, atol)


def test_every_pattern_is_of_a_case():
    assert not [pattern for pattern in PATTERNS if not any(_speaks_of(pattern, key) for key in IDS)]


def test_one_node():
    node = onnx.helper.make_node("Slice", ["x", "starts", "ends"], ["y"])
    (y,) = run_node(
        node, [np.arange(12.0, dtype="float32").reshape(3, 4), np.array([1, 1]), np.array([3, 3])]
    )
    np.testing.assert_array_equal(y, [[5, 6], [9, 10]])


def test_another_shape_builds_another_model():
    graph = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 23]> g (float[6] x, int64[2] s) => (float[A, B] y) { y = Reshape (x, s) }'
    )
    model = prepare(graph)
    x = np.arange(6, dtype="float32")
    for shape in (2, 3), (3, 2), (2, 3):
        np.testing.assert_array_equal(model.run({"x": x, "s": np.array(shape)})[0], x.reshape(shape))


def test_devices():
    assert supports_device("CPU")
    assert not supports_device("CUDA:1")
