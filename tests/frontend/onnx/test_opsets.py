"""Files of every opset: the model that is converted equals the one that was given, in onnxruntime."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from checking import check, outputs, parse, planned
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import RemoveUnusedFunctionsPass
from opset_rows import ROWS, VERSIONS, run

import bridge
from bridge import BridgeError, UnsupportedError
from bridge.build.builder import build
from bridge.frontend.onnx.load import load
from bridge.graph.functions import OPSET
from bridge.passes.common import inline
from bridge.verification.reference.as_given import NodeByNode
from bridge.verification.reference.old_forms import NEWER

# what neither onnxruntime nor the reference evaluator runs as given
RUN_BY_NONE = {("GlobalLpPool", 22), ("MaxRoiPool", 22), ("Multinomial", 22)}
RUNS = {
    f"{row.op}-{version}-{row.nodes}": (row, version)
    for row in ROWS
    for version in row.versions
    if (row.op, version) not in RUN_BY_NONE
}
LEFT_OUT = {
    "no tensors, which nothing in Keras is": {
        "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt", "SequenceEmpty", "SequenceErase",
        "SequenceInsert", "SequenceLength", "SequenceMap", "SplitToSequence",
    },
    "texts and pictures": {"ImageDecoder", "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"},
    "neither onnxruntime nor ONNX's reference evaluator runs it": {"LinearAttention"},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "version"), RUNS.values(), ids=RUNS)
def test_raised(row, version):
    model, feeds = row.model(version), row.feeds()
    if row.refused:
        with pytest.raises(BridgeError, match=row.refused):
            load(_typed(model, []))
        return
    wanted = row.wanted(version)
    raised = load(_typed(model, wanted))
    assert raised.opset_imports[""] == max(version, OPSET)
    inline(raised)
    RemoveUnusedFunctionsPass()(raised)
    for want, got in zip(
        map(np.asarray, wanted), map(np.asarray, _run(ir.to_proto(raised), feeds)), strict=True
    ):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        rounding = 1e-3 if want.dtype == np.float16 else 2e-6
        np.testing.assert_allclose(got, want, rounding, rounding)


def _typed(model, wanted):
    """The model with the types of its outputs, as any file has them."""
    for value, array in zip(
        model.graph.output, wanted or [np.zeros(1, "float32")] * len(model.graph.output), strict=True
    ):
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)
        value.type.CopyFrom(onnx.helper.make_tensor_type_proto(kind, np.shape(array)))
    return model


def _run(model, feeds):
    """In onnxruntime; what of opset 22 or later it lacks, in ONNX's reference evaluator, or by the kernel of opset 21,
    from which 22 differs in types alone."""
    try:
        return run(model, feeds)
    except Exception:
        try:
            return ReferenceEvaluator(model).run(None, feeds)
        except Exception:
            model.opset_import[0].version = 21
            return run(model, feeds)


def test_every_operator_at_every_opset():
    """A new operator, or a new version of one, needs a row, or a reason in `LEFT_OUT`."""
    covered = {(row.op, version) for row, version in RUNS.values()} | RUN_BY_NONE
    left_out = set().union(*LEFT_OUT.values())
    assert [pair for pair in VERSIONS if pair not in covered and pair[0] not in left_out] == []
    assert not [op for op, _ in covered if op in left_out]


def test_initializers_that_are_inputs_are_weights(tmp_path):
    proto = onnx.parser.parse_model(
        '<ir_version: 3, opset_import: ["": 7]> g (float[2, 3] x, float[3] b) => (float[2, 3] y) <float[3] b = {1, 2, 3}>'
        "{ y = Add (x, b) }"
    )
    path = tmp_path / "old.onnx"
    onnx.save(proto, path)
    before = proto.SerializeToString()
    for source in proto, path, str(path):
        model = load(source)
        assert [value.name for value in model.graph.inputs] == ["x"]
        assert list(model.graph.initializers) == ["b"]
    assert proto.SerializeToString() == before
    session = onnxruntime.InferenceSession(path)
    assert [value.name for value in session.get_inputs()] == ["x"]
    (y,) = session.run(None, {"x": np.zeros((2, 3), "float32")})
    np.testing.assert_array_equal(y, [[1, 2, 3]] * 2)


OLD = {key: run for key, run in RUNS.items() if run[1] < NEWER and not run[0].refused}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "version"), OLD.values(), ids=OLD)
def test_reference_of_old_files(row, version):
    """Node by node as on the whole, where onnxruntime runs it, and else as the row says."""
    reference, inputs = NodeByNode(row.model(version)), list(row.feeds().values())
    if "SAME_LOWER" in row.nodes and "dilations" in row.nodes:
        with pytest.raises(
            Exception, match="Dilation not supported for AutoPadType"
        ):  # onnxruntime's own limit
            reference(inputs)
        return
    made = reference(inputs)
    for want, got in zip(map(np.asarray, row.wanted(version)), made, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_allclose(got, want, 1e-5, 1e-6)


PROVED_OPS = {
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "GRU",
    "Gemm",
    "GlobalLpPool",
    "Split",
    "Tile",
    "Upsample",
}
PROVED = [
    row
    for row in ROWS
    if row.op in PROVED_OPS and row.first < NEWER and not row.refused
    if not (row.op == "Split" and "int64" in row.values)  # lengths that its schema has in the type of x
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", PROVED, ids=lambda row: f"{row.op}-{row.first}-{row.nodes}")
def test_old_files_are_proved(row):
    model = _typed(row.model(row.first), row.wanted(row.first))
    assert bridge.convert(model).report.verified


def test_an_old_network_is_proved():
    weights = "float[4, 3, 3, 3] w, float[4] s, float[4] v, float[256, 5] f, float[5] b, float[4] a"
    model = parse(
        f"""<ir_version: 3, opset_import: ["": 6]> g (float[N, 3, 8, 8] x) => (float[N, 2, 5] y) <{weights}> {{
            c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w)
            n = BatchNormalization <is_test = 1> (c, s, s, s, v)
            m = Add <broadcast = 1, axis = 1> (n, a)
            p = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (m)
            l = LRN <size = 3> (p)
            k = Flatten (l)
            z = Gemm <broadcast = 1> (k, f, b)
            u = Unsqueeze <axes = [1]> (z)
            t = Concat <axis = 1> (u, u)
            y = Softmax <axis = 1> (t)
        }}""",
        {"v": (0.5, 2)},
    )
    for tensor in model.graph.initializer:
        value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(value)
    assert bridge.convert(model).report.verified


QUICK = {"Add", "BatchNormalization", "Clip", "Dropout", "Hardmax", "Pad", "Resize", "Softmax", "Upsample"}
BUILT = [
    pytest.param(
        row,
        row.versions[0],
        id=f"{row.op}-{row.versions[0]}-{row.nodes}",
        marks=[] if row.op in QUICK and row.versions[0] < 13 else [pytest.mark.slow],
    )
    for row in ROWS
    if not row.refused and row.versions[0] < OPSET
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "version"), BUILT)
def test_built(row, version):
    """What Keras says of a row at its oldest opset, or a refusal."""
    wanted, feeds = row.wanted(version), row.feeds()
    try:
        built = build(planned(_typed(row.model(version), wanted)).require())
    except UnsupportedError as error:
        pytest.skip(str(error))
    for want, got in zip(map(np.asarray, wanted), outputs(built.model, list(feeds.values())), strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        rounding = 1e-3 if want.dtype == np.float16 else 1e-5
        np.testing.assert_allclose(got, want, rounding, rounding)


def test_layers_of_old_files():
    """IR version 3, every weight an input too, and what was an attribute then."""
    weights = "float[3, 3, 3, 3] w, float[3] s, float[3] v, float[4, 768] f, float[4] b"
    model = parse(
        f"""<ir_version: 8, opset_import: ["": 7]> g (float[N, 3, 8, 8] x) => (float[N, 4] y) <{weights}> {{
            p = Pad <mode = "reflect", pads = [0, 0, 1, 1, 0, 0, 1, 1]> (x)
            c = Conv <kernel_shape = [3, 3]> (p, w)
            n = BatchNormalization <spatial = 1> (c, s, s, s, v)
            r = Clip <min = 0.0, max = 6.0> (n)
            d, mask = Dropout <ratio = 0.4> (r)
            u = Upsample <scales = [1.0, 1.0, 2.0, 2.0]> (d)
            k = Flatten (u)
            z = Gemm <transB = 1> (k, f, b)
            y = Softmax (z)
        }}""",
        {"v": (0.5, 2)},
    )
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype("float32")
    built = build(planned(model).require())
    names = {type(layer).__name__ for layer in built.model.layers}
    assert names >= {"Conv2D", "BatchNormalization", "ReLU", "Dropout", "UpSampling2D", "Dense", "Softmax"}
    np.testing.assert_allclose(outputs(built.model, [x])[0], run(model, {"x": x})[0], 1e-5, 1e-6)


def test_sizes_without_a_name():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 7]>g (float[N, M] x) => (float[N, M] y) { y = Softmax (x) }'
    )
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_param = "?"
    assert "Softmax" in [type(layer).__name__ for layer in build(planned(model).require()).model.layers]


def test_softmax_of_nothing():
    head = '<ir_version: 8, opset_import: ["": 7]>'
    check(head + "g (float[0, 1, N] x) => (float[0, 1, N] y) { y = Softmax <axis = 0> (x) }")


@pytest.mark.parametrize("attributes", ["<axis: int = @axis>", ""])
def test_functions_are_raised_from_their_own_opset(attributes):
    """A function whose text is of another opset than the model's, within which its operators are the same."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 12, "f": 1]> g (float[2, 3, 4] x) => (float[2, 3, 1] y)'
        "{ a = f.act <axis = 1> (x)  y = ReduceMean <axes = [-1]> (a) }"
        '<domain: "f", opset_import: ["": 11]> act <axis> (a) => (b) { r = Relu (a)  b = Softmax '
        + attributes
        + " (r) }"
    )
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    (want,) = run(model, {"x": x})
    raised = load(model)
    inline(raised)
    RemoveUnusedFunctionsPass()(raised)
    np.testing.assert_allclose(run(ir.to_proto(raised), {"x": x})[0], want, 1e-6)
    (got,) = outputs(build(planned(model).require()).model, [x])
    np.testing.assert_allclose(got, want, 1e-5)
