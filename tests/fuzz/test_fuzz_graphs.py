"""The fuzzer's graphs, a few with fixed seeds, and the shrinking of what fails."""

import onnx.parser
import pytest

from benchmarks.fuzz import graphs
from benchmarks.fuzz.operators import DRAWS
from bridge.frontend.onnx.lowered import LOWERINGS
from bridge.graph.reduce import reduce


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(0, 50, 10))
def test_graphs(seed):
    """Ten graphs each: equal, or refused by name."""
    for case in map(graphs.case, range(seed, seed + 10)):
        outcome = case.run()
        assert outcome.good, f"{case.seed} {outcome.kind}: {outcome.text}\n{case.shown()}"


UNDRAWN = set(  # an LSTM that is always refused, forms of others, other names, and what onnxruntime has no kernels of
    "Adagrad Adam Momentum DynamicQuantizeLSTM FusedMatMulActivation QAttention SimplifiedLayerNormalization TransposeMatMul".split()
)


def test_what_is_written_out_is_drawn():
    drawn = {name.rpartition(":")[2] for name in DRAWS}
    assert {name for _, name in LOWERINGS} - drawn == UNDRAWN


def test_a_seed_draws_one_graph():
    assert graphs.case(3).proto == graphs.case(3).proto


def test_an_input_without_a_type_does_not_end_the_process():
    """As onnx's own inference does at this operator."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "other": 1]> g (float[n, 4] x) => (float[a, b] y) '
        "{ u = other.Op (x)  y = EyeLike <dtype = 1> (u) }"
    )
    small = reduce(model, lambda model: any(node.op_type == "EyeLike" for node in model.graph.node))
    assert len(small.graph.node) == 1


def test_reduces_to_the_node_that_fails():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n, 4] x, float[n, 4] z) => (float[n, 4] y, float[n, 4] u) '
        "<float[4] b = {1, 2, 3, 4}> { a = Exp (x)  c = Mul (a, b)  y = Elu <alpha = 2.0> (c)  u = Add (z, a) }"
    )
    small = reduce(model, lambda model: any(node.op_type == "Elu" for node in model.graph.node))
    assert [node.op_type for node in small.graph.node] == ["Elu"]
    assert not small.graph.node[0].attribute
    assert len(small.graph.input) == len(small.graph.output) == 1
    assert not small.graph.initializer
