"""What changed in ONNX's operators, apart from the types they take: one function for each change, with the operators
that it befell and the opset below which it holds. It turns a node into the next form, or straight into the newest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from bridge.frontend.onnx.old import Old
from bridge.graph.rewriting import input_of, inputs_of
from bridge.graph.shapes import rank

LARGEST_FLOAT = float(np.finfo(np.float32).max)
Adapter = Callable[[Old], None]
ADAPTERS: dict[str, list[tuple[int, Adapter]]] = {}  # operator -> (below which opset, how)


def adapter(*ops: str, below: int) -> Callable[[Adapter], Adapter]:
    """How `ops` are read below that opset. Of one operator the oldest form comes first."""

    def enter(adapt: Adapter) -> Adapter:
        for op in ops:
            ADAPTERS.setdefault(op, []).append((below, adapt))
        return adapt

    return enter


@adapter("Cast", below=6)
def _named_type(old: Old) -> None:
    """Types had names."""
    name = old.take("to", "")
    if name.upper() not in ir.DataType.__members__:
        old.refuse(f"no type {name!r}")
    old.become("Cast", *old.node.inputs, to=int(ir.DataType[name.upper()]))


@adapter("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor", below=7)
def _limited_broadcast(old: Old) -> None:
    """The axes of b lay at `axis` of a, where now they are its last ones."""
    a, b = inputs_of(old.node)
    axis, broadcast = old.take("axis", None), old.take("broadcast", 0)
    if not broadcast or axis is None:
        return
    if a.shape is None or b.shape is None:
        old.refuse("it broadcasts along an axis, and the number of axes is not known; give its inputs shapes")
    after = len(a.shape) - axis % max(len(a.shape), 1) - len(b.shape)
    if after > 0:
        _unsqueeze_last(old, 1, after)


@adapter("PRelu", below=7)
def _slope_of_channels(old: Old) -> None:
    """A slope for each channel, which is axis 1 of x, where now it would be the last."""
    x, slope = inputs_of(old.node)
    if x.shape is None or slope.shape is None:
        old.refuse("the number of axes of its inputs is not known; give them shapes")
    if len(slope.shape) == 1 and len(x.shape) > 2 and slope.shape[0] != 1:
        _unsqueeze_last(old, 1, len(x.shape) - 2)


def _unsqueeze_last(old: Old, index: int, count: int) -> None:
    value = input_of(old.node, index)
    axes = old.constant([rank(value) + axis for axis in range(count)])
    old.node.replace_input_with(index, old.emit("Unsqueeze", value, axes))


@adapter("Concat", below=4)
def _axis_one(old: Old) -> None:
    """`axis` had a default."""
    if "axis" not in old.node.attributes:
        old.become("Concat", *old.node.inputs, axis=1)


@adapter("Gemm", below=7)
def _broadcast(old: Old) -> None:
    """C had to be allowed to broadcast; it does what it may do now."""
    old.take("broadcast", 0)


@adapter("Selu", below=6)
def _rounded(old: Old) -> None:
    """The defaults had fewer digits."""
    alpha, gamma = old.take("alpha", 1.6732), old.take("gamma", 1.0507)
    old.become("Selu", *old.node.inputs, alpha=alpha, gamma=gamma)


@adapter("GlobalLpPool", "LpPool", below=2)
def _whole_p(old: Old) -> None:
    """p was a float."""
    p = old.take("p", 2.0)
    if not float(p).is_integer():
        old.refuse(f"p is {p}, which has to be whole in later opsets")
    old.become(old.node.op_type, *old.node.inputs, p=int(p))


@adapter("GRU", "LSTM", "RNN", below=7)
def _output_sequence(old: Old) -> None:
    """It said whether Y is wanted, as the outputs do."""
    old.take("output_sequence", 0)


@adapter("BatchNormalization", "Dropout", below=7)
def _is_test(old: Old) -> None:
    """Without it the node trains."""
    if not old.take("is_test", 0):
        old.refuse(
            "is in training mode (is_test = 0); export the model in inference mode, or set is_test = 1"
        )


@adapter("BatchNormalization", below=9)
def _of_each_feature(old: Old) -> None:
    """With spatial = 0 every feature had statistics of its own, which broadcast over the batch."""
    x, scale, bias, mean, variance = inputs_of(old.node)
    if old.take("spatial", 1) or _rank(scale) == 1 and _rank(x) == 2:
        return
    epsilon = old.number(old.take("epsilon", 1e-5), x)
    old.take("momentum", 0.9)
    deviation = old.emit("Sqrt", old.emit("Add", variance, epsilon))
    normal = old.emit("Div", old.emit("Sub", x, mean), deviation)
    old.become("Add", old.emit("Mul", normal, scale), bias)


@adapter("BatchNormalization", below=14)
def _no_training_outputs(old: Old) -> None:
    """Statistics as outputs said that the node trains."""
    if any(value.uses() or value.is_graph_output() or value.name for value in old.node.outputs[1:]):
        old.refuse("gives statistics, so it is in training mode; export the model in inference mode")
    old.node.resize_outputs(1)


@adapter("Dropout", below=12)
def _ratio(old: Old) -> None:
    """`ratio` is an input; what the mask held in inference was for each runtime to say."""
    if any(value.uses() or value.is_graph_output() for value in old.node.outputs[1:]):
        old.refuse("its mask is read, which has no meaning in inference")
    old.node.resize_outputs(1)
    old.read(old.node.inputs[0], old.operand("ratio"))


@adapter("Clip", below=11)
def _bounds(old: Old) -> None:
    """min and max are inputs; from opset 6 on float32's largest numbers stood for none, which infinity feels."""
    x, none = input_of(old.node, 0), None if old.version < 6 else LARGEST_FLOAT
    low, high = old.take("min", none and -none), old.take("max", none)
    old.read(x, *(None if bound is None else old.number(bound, x) for bound in (low, high)))


@adapter("Pad", below=2)
def _paddings(old: Old) -> None:
    """pads were called paddings."""
    old.become("Pad", *old.node.inputs, pads=old.take("paddings", ()))


@adapter("Pad", below=11)
def _pads(old: Old) -> None:
    """pads and value are inputs."""
    x, value = input_of(old.node, 0), old.take("value", 0.0)
    old.read(x, old.operand("pads"), old.number(value, x) if value else None)


@adapter("Reshape", below=5)
def _shape(old: Old) -> None:
    """shape is an input."""
    old.read(old.node.inputs[0], old.operand("shape"))


@adapter("Tile", below=6)
def _one_axis(old: Old) -> None:
    """It was told a number and an axis."""
    x, *told = input_of(old.node, 0), *old.node.inputs[1:]
    tiles, axis = (None if value is None else ir.convenience.get_const_tensor(value) for value in told)
    if x.shape is None or tiles is None or axis is None:
        old.refuse("the number of axes, tiles or axis are not known; make the latter two constants")
    repeats = np.ones(len(x.shape), np.int64)
    repeats[int(axis.numpy().item())] = int(tiles.numpy().item())
    old.read(x, old.constant(repeats))


@adapter("TopK", below=10)
def _k(old: Old) -> None:
    """k is an input."""
    old.read(old.node.inputs[0], old.constant([old.take("k", 0)]))


@adapter("Slice", below=10)
def _starts(old: Old) -> None:
    """starts, ends and axes are inputs."""
    old.read(old.node.inputs[0], *map(old.operand, ("starts", "ends", "axes")))


@adapter("Scatter", below=11)
def _scatter_elements(old: Old) -> None:
    """It has another name."""
    old.become("ScatterElements", *old.node.inputs)


@adapter("Upsample", below=7)
def _two_scales(old: Old) -> None:
    """It was told the scales of images."""
    height, width = old.take("height_scale", 1.0), old.take("width_scale", 1.0)
    mode = old.take("mode", "nearest").replace("bilinear", "linear")
    old.become("Upsample", *old.node.inputs, scales=[1.0, 1.0, height, width], mode=mode)


@adapter("Upsample", below=9)
def _scales(old: Old) -> None:
    """scales is an input."""
    old.read(old.node.inputs[0], old.operand("scales"))


@adapter("Upsample", "Resize", below=11)
def _asymmetric(old: Old) -> None:
    """Positions were x / scale; the nearest was the one before, and of an axis that gets shorter the one after."""
    x, scales = inputs_of(old.node)
    if old.take("mode", "nearest") == "linear":
        old.become("Resize", x, None, scales, mode="linear", coordinate_transformation_mode="asymmetric")
        return
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
    tensor = ir.convenience.get_const_tensor(scales)
    longer = old.node.op_type == "Upsample" or tensor is not None and bool((tensor.numpy() >= 1).all())
    if longer or tensor is not None and bool((tensor.numpy() <= 1).all()):
        old.become("Resize", x, None, scales, nearest_mode="floor" if longer else "ceil", **nearest)
        return
    one = old.constant(1, np.float32)
    x = old.emit("Resize", x, None, old.emit("Max", scales, one), nearest_mode="floor", **nearest)
    old.become("Resize", x, None, old.emit("Min", scales, one), nearest_mode="ceil", **nearest)


@adapter("Resize", below=13)
def _left_out(old: Old) -> None:
    """Inputs that are not wanted had to be there, empty."""
    if old.version >= 11:
        tensors = [None if v is None else ir.convenience.get_const_tensor(v) for v in old.node.inputs]
        old.read(
            *(
                None if t is not None and not t.size else v
                for v, t in zip(old.node.inputs, tensors, strict=True)
            )
        )


@adapter("Resize", below=13)
def _positions_of_tensorflow(old: Old) -> None:
    """floor((x + 0.5) / scale) had a name of its own: it is half_pixel, rounded."""
    attributes = old.node.attributes
    if attributes.get_string("coordinate_transformation_mode") != "tf_half_pixel_for_nn":
        return
    if attributes.get_string("nearest_mode") != "floor":
        old.refuse("tf_half_pixel_for_nn without nearest_mode floor, which has no newer form")
    half = {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}
    old.become("Resize", *old.node.inputs, **half)


@adapter("Hardmax", "LogSoftmax", "Softmax", below=13)
def _of_a_matrix(old: Old) -> None:
    """x was seen as a matrix, whose columns were the axes from `axis` on."""
    x, axis = input_of(old.node, 0), old.node.attributes.pop("axis", ir.AttrInt64("axis", 1))
    if x.shape is not None and not axis.is_ref():
        columns = range(len(x.shape))[axis.as_int() :]
        longer = [column for column in columns if x.shape[column] != 1]
        if len(longer) < 2:
            old.become(old.node.op_type, x, axis=(longer or columns or [-1])[-1])
            return
    y = old.emit(old.node.op_type, old.emit("Flatten", x, axis=axis), axis=-1)
    old.become("Reshape", y, old.emit("Shape", x), allowzero=1)


@adapter("Split", below=2)
def _split_axis(old: Old) -> None:
    """`axis` had no default, and the sizes may have been an input."""
    if "axis" not in old.node.attributes:
        old.refuse("has no axis, and ONNX names no default for opset 1")


@adapter("Split", below=13)
def _split(old: Old) -> None:
    """split is an input."""
    if "split" in old.node.attributes:
        old.read(old.node.inputs[0], old.operand("split"))


@adapter("Split", below=18)
def _equal_parts(old: Old) -> None:
    """The number of equal parts was that of the outputs."""
    if len(old.node.inputs) == 1:
        old.become("Split", *old.node.inputs, num_outputs=len(old.node.outputs))


@adapter("ReduceSum", "Squeeze", "Unsqueeze", below=13)
@adapter(
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare", below=18,
)  # fmt: skip
def _axes(old: Old) -> None:
    """axes is an input."""
    old.read(old.node.inputs[0], old.operand("axes"))


@adapter("RoiAlign", below=16)
def _not_shifted(old: Old) -> None:
    """Boxes were not shifted by half a pixel, which is the default now."""
    old.become("RoiAlign", *old.node.inputs, coordinate_transformation_mode="output_half_pixel")


@adapter("GridSample", below=20)
def _any_rank(old: Old) -> None:
    """The modes were named for images."""
    mode = old.take("mode", "bilinear")
    names = {"bilinear": "linear", "bicubic": "cubic"}
    old.become("GridSample", *old.node.inputs, mode=names.get(mode, mode))


@adapter("DFT", below=20)
def _dft_axis(old: Old) -> None:
    """axis is an input, with another default."""
    x, length = (*old.node.inputs, None)[:2]
    old.read(x, length, old.constant(old.take("axis", 1)))


@adapter("Scan", below=9)
def _batched(old: Old) -> None:
    """It had an axis for the batch, and lengths."""
    old.refuse("Scan of opset 8 loops over a batch; export the model at opset 9 or later")


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)
