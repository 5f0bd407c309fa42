"""A wrong opset adapter, a wrong pass and a wrong builder are told apart, and the first wrong one is named."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from keras import ops
from keras.backend import backend

import bridge
from bridge import passes
from bridge.diagnosis import smallest
from bridge.frontend import source
from bridge.frontend.onnx.adapters import ADAPTERS
from bridge.verification.checks import ORT_KERAS, SIMPLIFIED, TORCH_ORT

TEXT = """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y)
{ a = Tanh (x)  b = Relu (a)  y = Add (b, x) }"""


def blamed() -> tuple[str, str]:
    """The leg that failed first, and what the error says."""
    with pytest.raises(bridge.MismatchError) as caught:
        bridge.convert(onnx.parser.parse_model(TEXT))
    report = caught.value.report
    return next(check.leg for check in report.checks if not check.passed), str(caught.value)


def soften(model: ir.Model) -> None:
    """Relu becomes Softplus."""
    for node in list(model.graph):
        node.op_type = "Softplus" if node.op_type == "Relu" else node.op_type


def test_a_wrong_adapter_is_named(monkeypatch):
    load_source = source.load_source

    def opened(*given):
        right = load_source(*given)
        soften(right.model)
        return right

    monkeypatch.setattr("bridge.conversion.load_source", opened)
    leg, text = blamed()
    assert leg == SIMPLIFIED
    assert text.endswith("raising the opset, first at Softplus b")


def test_a_wrong_adapter_says_nothing_of_what_its_source_is_sure_of(monkeypatch):
    """Where it departs from the graph as given, float64 departs from it too, and rounding has no part in either."""
    monkeypatch.setitem(
        ADAPTERS, "Hardmax", [(13, lambda old: old.node.attributes.add(ir.AttrInt64("axis", -1)))]
    )
    text = '<ir_version: 5, opset_import: ["" : 11]> g (float[3,2,5] x) => (float[3,2,5] y) { y = Hardmax <axis = -2> (x) }'
    with pytest.raises(bridge.MismatchError, match="raising the opset"):
        bridge.convert(onnx.parser.parse_model(text))


@pytest.mark.skipif(backend() != "tensorflow", reason="other backends have kernels for more axes")
def test_what_the_backend_has_no_kernel_for_is_refused_where_it_stands():
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[n,1,2,1,1,1,1,1,1] x) => (float[n,1,2,1,1,1,1,1,1] y)
    { s = Softmax <axis = 2> (x)  a = Neg (s)  c = Less (a, s)  b = Where (c, s, a)  y = Tanh (b) }"""
    with pytest.raises(
        bridge.UnsupportedError, match=r"^(Less|Where) at output .: tensorflow has no kernel for it: .*yet"
    ):
        bridge.convert(onnx.parser.parse_model(text))


@pytest.mark.parametrize("place", [0, 5, len(passes.PASSES)])
def test_a_wrong_pass_is_named(monkeypatch, place):
    monkeypatch.setattr(passes, "PASSES", (*passes.PASSES[:place], soften, *passes.PASSES[place:]))
    leg, text = blamed()
    assert leg == SIMPLIFIED
    assert text.endswith("pass soften, first at Softplus b")


def test_a_pass_after_which_nothing_runs_is_named(monkeypatch):
    def spoil(model: ir.Model) -> None:
        list(model.graph)[-1].op_type = "Nowhere"

    monkeypatch.setattr(passes, "PASSES", (*passes.PASSES, spoil))
    with pytest.raises(bridge.BridgeError, match="Nowhere"):
        bridge.convert(onnx.parser.parse_model(TEXT))


def test_a_wrong_pass_after_which_onnxruntime_does_not_run_is_named(monkeypatch):
    """Keras asks for less: the attribute is of another type there."""

    def spoil(model: ir.Model) -> None:
        for node in list(model.graph):
            if node.op_type == "Relu":
                node.op_type = "Elu"
                node.attributes.add(ir.AttrInt64("alpha", 3))

    monkeypatch.setattr(passes, "PASSES", (*passes.PASSES, spoil))
    leg, text = blamed()
    assert leg == ORT_KERAS
    assert "pass spoil, after which the graph does not run" in text


def test_a_wrong_builder_is_named(build_with):
    build_with("Relu", lambda x: ops.softplus(x))
    leg, text = blamed()
    assert leg == ORT_KERAS
    assert "first at Relu" in text


def test_a_builder_that_does_not_run_is_no_fault_of_the_proof(build_with):
    build_with("Relu", lambda x: ops.reshape(x, (-1, 5)))
    with pytest.raises(bridge.BridgeError) as caught:
        bridge.convert(onnx.parser.parse_model(TEXT))
    assert not isinstance(caught.value, bridge.InternalError)


def test_what_onnxruntime_cannot_run_is_run_by_the_reference_evaluator():
    text = (
        """<ir_version: 8, opset_import: ["" : 17]> g (double[N, 4] x) => (double[N, 4] y) { y = Elu (x) }"""
    )
    report = bridge.convert(onnx.parser.parse_model(text)).report
    assert report.verified
    assert any("ONNX's reference evaluator" in note for note in report.notes)


def test_a_fault_names_stage_node_and_cause(build_with):
    build_with("Relu", lambda x: {}["missing"])
    with pytest.raises(bridge.InternalError) as caught:
        bridge.convert(onnx.parser.parse_model(TEXT))
    assert str(caught.value).startswith(
        "a fault of bridge itself in build at Relu (output b): KeyError: 'missing'; "
    )
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_fault_in_a_pass_names_the_pass(monkeypatch):
    def stumble(model: ir.Model) -> None:
        for node in model.graph:
            assert node.op_type != "Relu"

    monkeypatch.setattr(passes, "PASSES", (stumble, *passes.PASSES))
    with pytest.raises(bridge.InternalError, match=r"in simplify, pass stumble at Relu \(output b\)"):
        bridge.convert(onnx.parser.parse_model(TEXT))


def test_the_smallest_graph_that_shows_a_fault(build_with):
    build_with("Relu", lambda x: {}["missing"])
    model = smallest(onnx.parser.parse_model(TEXT))
    assert [node.op_type for node in model.graph.node] == ["Relu"]
    with pytest.raises(bridge.InternalError):
        bridge.convert(model)


def test_what_is_proved_is_not_made_smaller():
    with pytest.raises(bridge.SourceError, match="nothing to make smaller"):
        smallest(onnx.parser.parse_model(TEXT))


def test_a_wrong_translation_is_caught_where_torch_is_sure(monkeypatch):
    """Where the export departs from torch, so does it from torch in float64, and rounding has no part in that."""
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh()).eval()
    export = source.load_torch

    def opened(*given):
        right = export(*given)
        soften_tanh(right.model)
        return right

    def soften_tanh(model: ir.Model) -> None:
        for node in model.graph:
            node.op_type = "Sin" if node.op_type == "Tanh" else node.op_type

    monkeypatch.setattr("bridge.frontend.source.load_torch", opened)
    with pytest.raises(bridge.MismatchError, match=TORCH_ORT):
        bridge.convert(module, torch.randn(2, 4))
