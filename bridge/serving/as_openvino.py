"""OpenVINO IR: what OpenVINO reads of the ONNX file, a `.xml` with its weights in a `.bin` beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.errors import Refusal, UnsupportedError, imported, short_message
from bridge.graph.functions import DOMAIN
from bridge.graph.recurrent import RECURRENT
from bridge.graph.rewriting import all_nodes
from bridge.serving.as_onnx import write_graph
from bridge.serving.written import Made, Written

if TYPE_CHECKING:
    import onnx_ir as ir


TITLE = "OpenVINO IR"
LENGTHS = 4  # the input of a recurrent layer that says how long each sequence is
NOTE = (
    "OpenVINO was compared as it computes in float32; where the processor has bfloat16 it takes that unless "
    'INFERENCE_PRECISION_HINT is "f32"'
)


def write(made: Made, path: Path) -> Written:
    """The two files. Raises `UnsupportedError` where OpenVINO cannot read or run the graph."""
    openvino = imported("openvino", TITLE, "openvino")
    if refused := list(_refusals(made.graph(TITLE).model)):
        raise UnsupportedError(refused)
    graph = path.with_suffix(".onnx")
    write_graph(made, graph, TITLE)
    core = openvino.Core()
    try:
        read = core.read_model(graph)
        read.set_rt_info({}, "conversion_parameters")
        openvino.save_model(read, path, compress_to_fp16=made.precision == "float16")
        compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except Exception as error:
        reason = (
            f"OpenVINO does not take this model: {short_message(error)}; export it as 'onnx' or 'saved_model'"
        )
        raise UnsupportedError([reason]) from error
    return Written([path.with_suffix(".bin"), path], made.by_names(compiled), (NOTE,))


def _refusals(model: ir.Model) -> Iterator[Refusal]:
    for node in all_nodes(model):
        kind = RECURRENT.get(node.op_type) if node.domain == DOMAIN else None
        if kind is not None and not kind.is_cell and _given(node, LENGTHS):
            reason = (
                "OpenVINO computes what is behind the end of a sequence too; export it as 'onnx' or 'litert'"
            )
            yield Refusal(kind.mode, node.name or "", reason)


def _given(node: ir.Node, place: int) -> bool:
    return place < len(node.inputs) and node.inputs[place] is not None
