"""What attributes have to be beyond their types. No schema says it, and each runtime makes its own of what is not so:
onnxruntime reads of `keepdims = 2` that it is not 1."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from bridge.errors import SourceError
from bridge.frontend.onnx.walk import Graph, graphs

FLAGS = frozenset(
    "align_corners allowzero antialias broadcast ceil_mode center_point_box count_include_pad detect_negative "
    "detect_positive exclude_outside exclusive fmod input_forget interleaved inverse is_causal keepdims largest layout "
    "linear_before_reset new_axis noop_with_empty_axes onesided output_sequence periodic reverse saturate "
    "select_last_index sorted spatial storage_order training_mode transA transB upper".split()
)  # fmt: skip
CLIPPED = ("LSTM", "GRU", "RNN")


def check_attributes(proto: onnx.ModelProto, where: str) -> None:
    """Raise `SourceError` with the first node of which an attribute is none that its operator knows what to do with."""
    for node in (node for graph in graphs(proto) for node in _standard(graph)):
        for reason in _reasons(node):
            called = f" {node.name!r}" if node.name else ""
            raise SourceError(f"{where}: {node.op_type}{called}: {reason}")


def _standard(graph: Graph) -> Iterator[onnx.NodeProto]:
    return (node for node in graph.node if node.domain in ("", "ai.onnx"))


def _reasons(node: onnx.NodeProto) -> Iterator[str]:
    if node.op_type == "Constant" and len(node.attribute) != 1:
        yield f"holds {len(node.attribute)} values in place of one"
    for attribute in node.attribute:
        is_number = attribute.type == onnx.AttributeProto.INT and not attribute.ref_attr_name
        if attribute.name in FLAGS and is_number and attribute.i not in (0, 1):
            yield f"{attribute.name} is {attribute.i}, neither 0 nor 1"
        if (
            attribute.name == "clip"
            and node.op_type in CLIPPED
            and not attribute.ref_attr_name
            and not attribute.f > 0
        ):
            yield f"clip is {attribute.f:g}, which leaves nothing"
