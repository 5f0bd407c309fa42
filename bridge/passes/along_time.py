"""What each operator does along the time of a sequence that comes in pieces: the table, by the rules of
`frame_rules.py` and those of the operators that keep a state. An operator that is not in the table is refused.
"""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.frames import Frames, Unstreamed, Whole, through_window, together
from bridge.graph.functions import DOMAIN
from bridge.graph.recurrent import RECURRENT
from bridge.graph.rewriting import attribute, input_of, is_used
from bridge.graph.shapes import shape_of
from bridge.graph.windows import Window, pool_windows, windows
from bridge.passes.frame_rules import (
    TOGETHER,
    Known,
    Place,
    Rule,
    across,
    all_but_batch,
    axes_from,
    channels,
    elementwise,
    expanded,
    joined,
    looked_up,
    multiplied,
    named_axis,
    normalised,
    one_hot,
    padded,
    parted,
    projected,
    reduced,
    require_apart,
    reshaped,
    sliced,
    tiled,
    transposed,
)  # fmt: skip


def windows_of(node: ir.Node) -> list[Window]:
    """Along each spatial axis."""
    spatial = shape_of(input_of(node, 0))[2:]
    strides, pads, dilations = (attribute(node, name) for name in ("strides", "pads", "dilations"))
    auto_pad = attribute(node, "auto_pad", "NOTSET")
    if node.op_type.endswith("Pool"):
        return pool_windows(spatial, attribute(node, "kernel_shape"), strides, pads, dilations, auto_pad)
    kernel = [size for size in shape_of(input_of(node, 1))[2:] if isinstance(size, int)]
    return windows(spatial, kernel, strides, pads, dilations, auto_pad)


def slid(place: Place) -> Known:
    """A window over the spatial axes."""
    node, frames = place.node, place.alone()
    if not frames.axis:
        return frames
    require_apart(frames, channels(node, place.rank()), place.rank())
    if frames.merged:
        raise Unstreamed("time shares an axis with others; keep one axis for time alone")
    if len(node.outputs) > 1 and is_used(node.outputs[1]):
        raise Unstreamed("the places of its maxima count from the start of the sequence")
    along = windows_of(node)
    if len(along) < place.rank() - 2:
        raise Unstreamed("how far its window reaches is not known")
    window = along[frames.axis - 2]
    if window.pads is None:
        raise Unstreamed("auto_pad pads by how many frames there are; give pads")
    if window.pads[0] and node.op_type == "MaxPool" and not _is_float(input_of(node, 0)):
        raise Unstreamed("it pads integers, of which none is minus infinity")
    counts = node.op_type != "AveragePool" or attribute(node, "count_include_pad", 0)
    if window.pads[0] and not counts:
        raise Unstreamed(
            "it takes means of fewer frames at the start; pad by F.pad(x, (n, 0)), or count_include_pad=True"
        )
    return through_window(frames, window, node)


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def time_axis(node: ir.Node) -> int:
    """Along which a recurrent layer steps."""
    return 0 if RECURRENT[node.op_type].is_projected else 1


def recurred(place: Place) -> list[Known]:
    node, op, frames = place.node, RECURRENT[place.node.op_type], place.frames
    if op.is_cell or frames.axis == 1 - time_axis(
        node
    ):  # frames beside one another, each from a state of its own
        known = [item for item in place.given if item is not None]
        return [together([item for item in known if isinstance(item, Frames)])] * len(node.outputs)
    if frames.axis != time_axis(node) or frames.merged:
        raise Unstreamed(TOGETHER)
    reason = _not_streamed(node, op.directions, op.given_state)
    if reason or any(known is not None for known in place.given[1:]):
        raise Unstreamed(reason or "more than its sequence is made of frames")
    if frames.more:
        raise Unstreamed("it steps through frames that were padded; pad behind it")
    return [frames, *[Whole.SO_FAR] * (len(node.outputs) - 1)]


def _not_streamed(node: ir.Node, directions: int, given_state: bool) -> str:
    """Why a recurrent layer does not go on from piece to piece."""
    if directions == 2 or attribute(node, "direction", "forward") != "forward":
        return "it reads the sequence from its end too, which no piece has; train it with bidirectional=False"
    if given_state:
        return (
            "it starts from a state that it is given, at every call; convert without stateful and hand its last state "
            "on, or let it start from zeros"
        )
    if len(node.inputs) > 4 and node.inputs[4] is not None:
        return "its rows end at lengths of their own, which pieces do not know; do not pack them"
    return ""


UNARY = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor Gelu
    HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign
    Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu
"""
BROADCAST = """
    Add And BitwiseAnd BitwiseOr BitwiseXor BitShift CastLike Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean
    Min Mod Mul Or PRelu Pow Sub Sum Where Xor
"""
OURS = """
    AlphaDropout Atan2 Expm1 FeatureAlphaDropout FeatureDropout Log1p LogAddExp LogSigmoid Silu StopGradient
"""
REDUCED = """
    ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare
"""
RULES: dict[tuple[str, str], Rule] = {
    **{("", op): elementwise for op in (UNARY + BROADCAST).split()},
    **{(DOMAIN, op): elementwise for op in OURS.split()},
    **{("", op): reduced for op in REDUCED.split()},
    **{
        ("", op): across(named_axis) for op in ("Hardmax", "LogSoftmax", "LpNormalization", "Softmax", "TopK")
    },
    **{("", op): across(axes_from) for op in ("LayerNormalization", "RMSNormalization")},
    **{("", op): across(all_but_batch) for op in ("GroupNormalization", "InstanceNormalization")},
    **{("", op): reshaped for op in ("Flatten", "Reshape", "Squeeze", "Unsqueeze")},
    **{("", op): slid for op in ("AveragePool", "Conv", "LpPool", "MaxPool")},
    **{(DOMAIN, op): recurred for op in RECURRENT},
    ("", "BatchNormalization"): normalised,
    ("", "Concat"): joined,
    ("", "Expand"): expanded,
    ("", "Gather"): looked_up,
    ("", "LRN"): normalised,
    ("", "MatMul"): multiplied,
    ("", "OneHot"): one_hot,
    ("", "Pad"): padded,
    ("", "Slice"): sliced,
    ("", "Split"): parted,
    ("", "Tile"): tiled,
    ("", "Transpose"): transposed,
    (DOMAIN, "Linear"): projected,
    (DOMAIN, "TiedEmbedding"): looked_up,
    (DOMAIN, "TiedProjection"): projected,
}
EVENLY = {"ConstantOfShape", "Expand", "Squeeze", "Transpose", "Unsqueeze"}
MAKES_EVEN = EVENLY | set((UNARY + BROADCAST).split())  # of what is the same in every frame they make such
READS_SIZES = {
    "Expand",
    "Pad",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Unsqueeze",
}  # as further inputs
FROM_ZERO = "positions along time count from zero in every piece"
COUNTED = "how many frames there are goes into its numbers, and a piece has not as many as the sequence"
REASONS = {
    "Attention": "it looks at all frames from each, and a piece has not all of them",
    "MultiHeadAttention": "it looks at all frames from each, and a piece has not all of them",
    "CumSum": "it sums from the start of the sequence, which no piece has",
    "Range": FROM_ZERO,
    "ConvTranspose": "it writes several frames for each, over one another",
    "Resize": "it makes other frames of those around them",
    "ReverseSequence": "it turns the sequence around, and no piece has its end",
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), TOGETHER),
}


def steps_along(node: ir.Node) -> int | None:
    """The axis along which a recurrent layer steps; None of anything else."""
    is_layer = node.domain == DOMAIN and node.op_type in RECURRENT and not RECURRENT[node.op_type].is_cell
    return time_axis(node) if is_layer else None


def refused_anyhow(node: ir.Node, time: str) -> str:
    """Why a node is refused whatever it is given, or nothing."""
    axis, value = steps_along(node), node.inputs[0] if node.inputs else None
    if axis is not None and value is not None and value.shape is not None:
        dim, op = shape_of(value)[axis], RECURRENT[node.op_type]
        over_time = not isinstance(dim, int) and time in dim.free_symbols()
        return _not_streamed(node, op.directions, op.given_state) if over_time else ""
    return "" if (node.domain, node.op_type) in RULES else REASONS.get(node.op_type, "")
