"""Attributes checked beyond their types: flags, words and limits. No schema says which are legal, and each runtime
makes its own of the others: onnxruntime reads of `keepdims = 2` that it is not 1."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from bridge.errors import SourceError, readable
from bridge.graph.walk import Graph, graphs

FLAGS = frozenset(
    "align_corners allowzero antialias broadcast ceil_mode center_point_box count_include_pad detect_negative "
    "detect_positive exclude_outside exclusive fmod input_forget interleaved inverse is_causal keepdims largest layout "
    "linear_before_reset new_axis noop_with_empty_axes onesided output_sequence periodic reverse saturate "
    "select_last_index sorted spatial storage_order training_mode transA transB upper".split()
)  # fmt: skip
CLIPPED = ("LSTM", "GRU", "RNN")
WORDS = {  # that an attribute may say, of one operator or of all that have it
    "auto_pad": "NOTSET SAME_LOWER SAME_UPPER VALID",
    "direction": "bidirectional forward reverse",
    "BitShift.direction": "LEFT RIGHT",
    "DepthToSpace.mode": "CRD DCR",
    "SpaceToDepth.mode": "CRD DCR",
    "GridSample.mode": "bicubic bilinear cubic linear nearest",
    "Pad.mode": "constant edge reflect wrap",
    "Resize.mode": "cubic linear nearest",
    "RoiAlign.mode": "avg max",
    "Upsample.mode": "bilinear linear nearest",
    "Resize.coordinate_transformation_mode": "align_corners asymmetric half_pixel half_pixel_symmetric "
    "pytorch_half_pixel tf_crop_and_resize tf_half_pixel_for_nn",
    "RoiAlign.coordinate_transformation_mode": "half_pixel output_half_pixel",
    "approximate": "none tanh",
    "keep_aspect_ratio_policy": "not_larger not_smaller stretch",
    "nearest_mode": "ceil floor round_prefer_ceil round_prefer_floor",
    "padding_mode": "border reflection zeros",
    "round_mode": "down nearest up",
    "NegativeLogLikelihoodLoss.reduction": "mean none sum",
    "SoftmaxCrossEntropyLoss.reduction": "mean none sum",
    "ScatterElements.reduction": "add max min mul none",
    "ScatterND.reduction": "add max min mul none",
    "TensorScatter.mode": "circular linear",
}


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
        if attribute.type == onnx.AttributeProto.STRING and not attribute.ref_attr_name:
            yield from _unknown_word(node.op_type, attribute)
        if (
            attribute.name == "clip"
            and node.op_type in CLIPPED
            and not attribute.ref_attr_name
            and not attribute.f > 0
        ):
            yield f"clip is {attribute.f:g}, which leaves nothing"


def _unknown_word(operator: str, attribute: onnx.AttributeProto) -> Iterator[str]:
    words = WORDS.get(f"{operator}.{attribute.name}", WORDS.get(attribute.name))
    said = attribute.s.decode(errors="replace")
    if words is not None and said and said not in words.split():
        yield f"{attribute.name} is {readable(said)}, none of {', '.join(words.split())}"
