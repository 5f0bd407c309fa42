"""Symbolic shapes for every value, and symbolic contents for shape arithmetic."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from fractions import Fraction

import onnx_ir as ir
import sympy
from onnx_shape_inference import (
    SYM_DATA_KEY,
    OpUsageError,
    ShapeInferenceContext,
    ShapeInferenceError,
    _context,
    infer_symbolic_shapes,
    registry,
)

from bridge.errors import BridgeError, SourceError, short_message
from bridge.graph.axes import MAX_RANK
from bridge.graph.decimals import fraction
from bridge.graph.functions import add_functions, is_foreign
from bridge.graph.loops import scanned_out, trips
from bridge.graph.rewriting import all_nodes, attribute, input_of, inputs_of, integers, is_onnx
from bridge.graph.shapes import Dim, formula, kept_ratio, shape_of
from bridge.passes import broadcast_shapes, slice_shapes, window_shapes
from bridge.passes.bounds import MAX_CONTENTS, ROOM, Bounded, Room, require_bounds
from bridge.passes.library_rules import library_rule
from bridge.passes.normal_form import plain_symbol
from bridge.passes.sequence_to_split import part_sizes


def infer_shapes(model: ir.Model) -> None:
    """Infer all shapes anew from the graph's inputs, so that equal dims are written alike.

    What the graph declares of its outputs is kept only where nothing can be inferred, and of foreign operators. Raises
    `SourceError` if shapes do not fit, or are beyond `bounds`.
    """
    add_functions(model)  # through whose bodies the shapes of our operators follow
    values = [value for node in all_nodes(model) if not is_foreign(node) for value in node.outputs]
    declared = [value.shape for value in values]
    for value in values:
        value.shape = None
    try:
        infer_symbolic_shapes(model, warn_on_missing=False, adopt_declared_symbols=False)
    except (ShapeInferenceError, OpUsageError) as error:
        if isinstance(error.__cause__, BridgeError):
            raise error.__cause__ from None
        raise SourceError(f"shapes do not fit: {short_message(error)}{_reason(error)}") from error
    require_bounds(model.graph)
    # of the graph as it was given, before passes take from it
    model.meta.setdefault(ROOM, Room.of(model.graph))
    for value, shape in zip(values, declared, strict=True):
        if value.shape is not None:
            value.shape = ir.Shape([plain_symbol(dim) for dim in value.shape])
        elif value.is_graph_output():
            value.shape = shape
        if SYM_DATA_KEY in value.metadata_props:
            contents = [
                d if isinstance(d, int) else ir.SymbolicDim(d)
                for d in json.loads(value.metadata_props[SYM_DATA_KEY])
            ]
            sizes = [d if isinstance(d, int) else d.value for d in map(plain_symbol, contents)]
            value.metadata_props[SYM_DATA_KEY] = json.dumps(sizes)


def _reason(error: BaseException) -> str:
    return "" if error.__cause__ is None else f": {short_message(error.__cause__)}"


_context.ShapeInferenceContext = Bounded  # type: ignore[misc]  # what the library's engine makes one of
registry.collect()
window_shapes.register()
slice_shapes.register()
broadcast_shapes.register()
_infer_where = library_rule("Where", 9)


@registry.register("", "Where", since_version=10)
def _where(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """As the library has it; and shape arithmetic that asks which sizes equal a number (torch's own way to expand:
    `Where(sizes == -1, ones, sizes)`) is followed element by element."""
    _infer_where(ctx, node)
    asked = input_of(node, 0).producer()
    if asked is None or asked.op_type != "Equal":
        return
    left, right, chosen, other = (
        ctx.get_symbolic_value(v) for v in (*inputs_of(asked), *inputs_of(node)[1:])
    )
    if left is None or right is None or chosen is None or other is None:
        return
    count = max(map(len, (left, right, chosen, other)))
    columns = [items * count if len(items) == 1 else items for items in (left, right, chosen, other)]
    picked = [_choose(*row) for row in zip(*columns, strict=True)]
    known = [dim for dim in picked if dim is not None]
    if len(known) == len(picked):
        ctx.set_symbolic_value(node.outputs[0], known)


def _choose(left: Dim, right: Dim, chosen: Dim, other: Dim) -> Dim | None:
    """`chosen` if left == right, `other` if not, None if that is not known. A size is never negative."""
    if left == right:
        return chosen
    if isinstance(left, int) and isinstance(right, int):
        return other
    numbers = [dim for dim in (left, right) if isinstance(dim, int)]
    return other if numbers and numbers[0] < 0 else None


# --- integer division, which the library propagates for numbers only ---------------------------------------------


def _extend(op: str, divide: Callable[[Dim, int], Dim]) -> None:
    """Propagate the contents of `op` too; sizes are not negative, so that rounding down is rounding to zero."""
    shapes = library_rule(op, 14)

    @registry.register("", op, since_version=15)
    def infer_contents(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        shapes(ctx, node)
        left, right = (ctx.get_symbolic_value(value) for value in inputs_of(node))
        if left is None or right is None or len(right) != 1 or not isinstance(right[0], int) or right[0] <= 0:
            return
        if not all(isinstance(item, int) for item in left):
            ctx.set_symbolic_value(node.outputs[0], [divide(item, right[0]) for item in left])


_extend("Div", lambda a, b: a // b)
_extend("Mod", lambda a, b: a % b)


# --- sizes times a number --------------------------------------------------------------------------------------

_infer_cast = library_rule("Cast", 19)


@registry.register("", "Cast", since_version=13)
def _cast(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """As the library has it; and a size that was multiplied as a number of floating point is followed back to whole
    numbers. A size is not negative, so that rounding to zero is rounding down."""
    _infer_cast(ctx, node)
    scaled = _scaled(ctx, input_of(node, 0))
    if scaled is not None and node.outputs[0].dtype in (ir.DataType.INT64, ir.DataType.INT32):
        ctx.set_symbolic_value(node.outputs[0], scaled)


def _scaled(ctx: ShapeInferenceContext, value: ir.Value) -> list[Dim] | None:
    """The sizes times a positive constant that `value` holds, rounded down; None if it holds something else."""
    node = value.producer()
    if is_onnx(node, "Floor"):
        node = input_of(node, 0).producer()
    if not is_onnx(node, "Mul"):
        return None
    for sizes, factor in (inputs_of(node), inputs_of(node)[::-1]):
        tensor, cast = ir.convenience.get_const_tensor(factor), sizes.producer()
        if tensor is None or tensor.size != 1 or not is_onnx(cast, "Cast") or tensor.numpy().item() <= 0:
            continue
        contents = ctx.get_symbolic_value(input_of(cast, 0))
        if contents is not None and not all(isinstance(size, int) for size in contents):
            number = fraction(tensor.numpy().item())
            return [size * number.numerator // number.denominator for size in contents]
    return None


# --- parts of a sequence ---------------------------------------------------------------------------------------


@registry.register("", "SequenceAt", since_version=11)
def _infer_part(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """A part of what torch has just split, so that everything behind it has a shape too."""
    split, place = input_of(node, 0).producer(), integers(node.inputs[1])
    if not is_onnx(split, "SplitToSequence") or input_of(split, 0).shape is None or place is None:
        return
    dims = list(shape_of(input_of(split, 0)))
    axis = attribute(split, "axis", 0) % len(dims)
    sizes = part_sizes(split, dims[axis])
    if sizes is None or not -len(sizes) <= place[0] < len(sizes):
        return
    keeps = attribute(split, "keepdims", 1) or len(split.inputs) > 1
    dims[axis : axis + 1] = [sizes[place[0]]] if keeps else []
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(dims), input_of(split, 0).dtype)


# --- sizes that the library takes from constants only ----------------------------------------------------------


_infer_reshape = library_rule("Reshape", 14)
_infer_concat = library_rule("Concat", 13)


@registry.register("", "Reshape", since_version=5)
def _reshape(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """As the library has it, which makes a size for every element of a shape that it does not know."""
    dims = node.inputs[1].shape if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if dims is not None and len(dims) == 1 and isinstance(dims[0], int) and dims[0] > MAX_RANK:
        raise SourceError(
            f"{node.outputs[0].name} has {dims[0]:,} axes; numpy's arrays have at most {MAX_RANK}"
        )
    _infer_reshape(ctx, node)


@registry.register("", "Concat", since_version=4)
def _concat(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """As the library has it, which makes a size for every element of a vector; long ones are no sizes."""
    shapes = [None if value is None else value.shape for value in node.inputs]
    lengths = [shape[0] for shape in shapes if shape is not None and len(shape) == 1]
    if len(lengths) < len(shapes) or all(isinstance(n, int) and n <= MAX_CONTENTS for n in lengths):
        _infer_concat(ctx, node)
    else:
        total = functools.reduce(lambda a, b: a + b, lengths)
        ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([total]), input_of(node, 0).dtype)


_infer_einsum = library_rule("Einsum", 12)


@registry.register("", "Einsum", since_version=13)
def _einsum(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """As the library has it. onnxruntime's ends the process where nothing is summed and nothing there to multiply."""
    inputs, _, result = attribute(node, "equation", "").partition("->")
    empty = [v for v in node.inputs if v is not None and v.shape is not None and 0 in v.shape]
    if empty and "," in inputs and set(filter(str.isalpha, inputs)) <= set(result):
        raise SourceError(f"Einsum of {empty[0].name}, which is empty, is not defined")
    _infer_einsum(ctx, node)


def _require_sequences(op: str) -> None:
    """The shapes of a recurrent operator as the library has them, which looks at no rank."""
    shapes = library_rule(op, 14)

    @registry.register("", op, since_version=15)
    def infer_recurrent(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        x = input_of(node, 0)
        if x.shape is not None and len(x.shape) != 3:
            raise SourceError(
                f"{op} of {x.name}, which has {len(x.shape)} axes, reads time, batch and features"
            )
        shapes(ctx, node)


for _op in ("LSTM", "GRU", "RNN"):
    _require_sequences(_op)


_infer_resize = library_rule("Resize", 19)


@registry.register("", "Resize", since_version=20)
def _resize(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """As the library has it; and where one scale of all axes keeps the aspect ratio, what that makes of each."""
    _infer_resize(ctx, node)
    policy, x = attribute(node, "keep_aspect_ratio_policy", "stretch"), input_of(node, 0)
    wanted = integers(node.inputs[3]) if policy != "stretch" and len(node.inputs) > 3 else None
    if wanted is None or x.shape is None:
        return
    dims = list(x.shape)
    axes = [axis % len(dims) for axis in attribute(node, "axes", range(len(dims)))]
    known = {axis: dim for axis in axes if isinstance(dim := dims[axis], int)}
    if len(known) == len(axes):
        scale = kept_ratio(policy, ((size, known[axis]) for size, axis in zip(wanted, axes, strict=True)))
        made = {axis: math.floor(scale * dim + Fraction(1, 2)) for axis, dim in known.items()}
        node.outputs[0].shape = ir.Shape([made.get(axis, dim) for axis, dim in enumerate(dims)])


_infer_pad = library_rule("Pad", 11)


@registry.register("", "Pad", since_version=13)
def _pad(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """As the library has it; and pads that are sizes."""
    data, pads = input_of(node, 0), ctx.get_symbolic_value(input_of(node, 1))
    given = input_of(node, 3) if len(node.inputs) > 3 else None
    axes = None if given is None else integers(given)
    if data.shape is None or pads is None or (given is not None and axes is None):
        _infer_pad(ctx, node)
        return
    dims = list(data.shape)
    axes = [axis % len(dims) for axis in (range(len(dims)) if axes is None else axes)]
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        dims[axis] = plain_symbol(dims[axis] + plain_symbol(before) + plain_symbol(after))
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(dims), data.dtype)


@registry.register("", "ConstantOfShape", since_version=10)
def _infer_constant_of_shape(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    dims = ctx.get_symbolic_value(input_of(node, 0))
    value = node.attributes.get("value")
    dtype = ir.DataType.FLOAT if value is None else value.as_tensor().dtype
    ctx.set_shape_and_dtype(node.outputs[0], None if dims is None else ir.Shape(dims), dtype)


@registry.register("", "Range", since_version=12)
def _infer_range(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Floating-point numbers too, as torch counts positions, where they are whole; downwards too."""
    start, limit, step = (_whole(ctx, value) for value in inputs_of(node))
    if start is None or limit is None or not isinstance(step, int) or not step:
        ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([ctx.new_symbolic_dim()]), input_of(node, 0).dtype)
        return
    count = -((start - limit) // step)
    count = max(count, 0) if isinstance(count, int) else ir.SymbolicDim(sympy.Max(0, formula(count)))
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([plain_symbol(count)]), input_of(node, 0).dtype)


def _whole(ctx: ShapeInferenceContext, value: ir.Value) -> Dim | None:
    """The one integer in `value`, maybe symbolic; None if it is not known or not whole."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        number = tensor.numpy().item()
        return int(number) if float(number).is_integer() else None
    contents = ctx.get_symbolic_value(value)
    return None if contents is None else contents[0]


# --- loops -----------------------------------------------------------------------------------------------------

_infer_loop = library_rule("Loop", 21)


@registry.register("", "Loop", since_version=22)
def _loop(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """As the library has it, which takes the limit for how often the body runs, whatever it says."""
    _infer_loop(ctx, node)
    times = trips(node)
    for side in scanned_out(node):
        if side.whole is not None and side.whole.shape is not None:
            dims = [ctx.new_symbolic_dim() if times is None else times, *side.whole.shape[1:]]
            side.whole.shape = None
            ctx.set_shape_and_dtype(side.whole, ir.Shape(dims), side.part.dtype)
