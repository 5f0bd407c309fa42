"""How a node of each operator is drawn: legal inputs and attributes, as many kinds of them as there are."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.fuzz.draft import Draft, Illegal

DRAWS: dict[str, Callable[[Draft], Any]] = {}


def draws(names: str) -> Callable[[Callable[[Draft], Any]], Callable[[Draft], Any]]:
    def register(function: Callable[[Draft], Any]) -> Callable[[Draft], Any]:
        DRAWS.update(dict.fromkeys(names.split(), function))
        return function

    return register


# --- element by element --------------------------------------------------------------------------------------


@draws(
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Cos Cosh Erf Exp Floor HardSwish Identity IsNaN Log Mish Neg "
    "Not Reciprocal Relu Round Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh"
)
def unary(d: Draft) -> None:
    d.node([d.tensor()])


@draws("Celu Elu HardSigmoid LeakyRelu Selu Shrink Swish ThresholdedRelu")
def shaped(d: Draft) -> None:
    given = {name: round(d.random.uniform(-0.5, 2), 2) for name in d.schema.attributes if d.chance(0.6)}
    if d.op == "Celu":
        given = {name: abs(number) + 0.1 for name, number in given.items()}
    d.node([d.tensor()], **given)


@draws("IsInf")
def is_inf(d: Draft) -> None:
    d.node([d.tensor()], **{name: d.pick([0, 1]) for name in d.schema.attributes})


@draws("Gelu")
def gelu(d: Draft) -> None:
    d.node([d.tensor()], approximate=d.pick(["none", "tanh", None]))


@draws("Add Sub Mul And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual BitwiseAnd BitwiseOr BitwiseXor")
def binary(d: Draft) -> None:
    x = d.tensor()
    pair = [x, d.partner(x)]
    d.random.shuffle(pair)
    d.node(pair)


@draws("Max Min Mean Sum")
def variadic(d: Draft) -> None:
    x = d.tensor()
    d.node([x, *(d.partner(x) for _ in range(d.random.randint(0, 2)))])


def _divisor(d: Draft, x: str) -> str:
    """No integer is divided by 0."""
    dtype = d.values[x].dtype
    if dtype.kind == "f":
        return d.partner(x)
    return d.partner(x, within=(1, 5))


@draws("Div")
def div(d: Draft) -> None:
    x = d.tensor()
    d.node([x, _divisor(d, x)])


@draws("Mod")
def mod(d: Draft) -> None:
    x = d.tensor()
    divisor = _divisor(d, x)
    floating = d.values[x].dtype.kind == "f"
    d.node([x, divisor], fmod=1 if floating else d.pick([0, 1, None]))


@draws("Pow")
def power(d: Draft) -> None:
    x = d.tensor()
    among = [d.values[x].dtype.name] if d.opset < 12 else [t for t in d.types(1) if t != "bool"]
    dtype = d.dtype(among)
    y = d.pick([d.leaf(dtype, (), (0, 3), "wc"), d.partner(x, dtype, (0, 3), wider=False)])
    d.node([x, y])


@draws("BitShift")
def bit_shift(d: Draft) -> None:
    x = d.tensor()
    d.node([x, d.partner(x, within=(0, 7))], direction=d.pick(["LEFT", "RIGHT"]))


@draws("Where")
def where(d: Draft) -> None:
    x = d.tensor(d.types(1))
    parts = [d.partner(x, "bool"), x, d.partner(x)]
    d.node(parts)


@draws("Clip")
def clip(d: Draft) -> None:
    x = d.tensor()
    low, high = sorted(round(d.random.uniform(0 if d.chance(0.4) else -2, 4), 1) for _ in range(2))
    low, high = (0.0 if d.chance(0.3) else low), high
    if d.has("min"):
        d.node([x], min=d.pick([low, None]), max=d.pick([high, None]))
        return
    dtype = d.values[x].dtype
    low, high = (max(0, low), max(0, high)) if dtype.kind == "u" else (low, high)
    bounds = [
        d.given(np.array(bound).astype(dtype), (low, low), "wwci") if d.chance(0.7) else ""
        for bound in (low, high)
    ]
    d.node([x, *bounds])


@draws("PRelu")
def prelu(d: Draft) -> None:
    x = d.tensor()
    d.node([x, d.partner(x, wider=False)])


@draws("Softmax LogSoftmax Hardmax")
def softmax(d: Draft) -> None:
    x = d.tensor(rank=(1, 5))
    d.node([x], axis=d.pick([d.axis(x), None]))


@draws("Dropout")
def dropout(d: Draft) -> None:
    x, count = d.tensor(), d.random.choices([1, 2], [4, 1])[0]
    ratio = d.pick([0.0, 0.3, 0.5, None])
    if d.has("ratio"):
        d.node([x], count, ratio=ratio)
        return
    mode = d.given(np.array(False)) if d.chance(0.3) else ""
    d.node([x, "" if ratio is None else d.given(np.array(ratio, "float32")), mode], count)


@draws("Cast CastLike")
def cast(d: Draft) -> None:
    """A number of floating point becomes an integer only where the integer is defined."""
    to = d.dtype(["float32", "int64", "int32", "bool", "float64", "float16", "uint8", "int8"])
    if np.dtype(to).kind in "iu":
        x = d.tensor([t for t in d.types() if t not in ("float16", "float32", "float64")])
        if d.chance(0.5):
            x = d.leaf(d.pick(["float32", "float64"]), d.shape(), (0, 4), "i")
    else:
        x = d.tensor()
    if d.op == "CastLike":
        d.node([x, d.leaf(to, d.shape(0, 2))])
    else:
        from onnx.helper import np_dtype_to_tensor_dtype

        d.node([x], to=np_dtype_to_tensor_dtype(np.dtype(to)))


# --- along axes ----------------------------------------------------------------------------------------------


@draws(
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"
)
def reduce(d: Draft) -> None:
    x = d.tensor(least=d.pick([0, 1, 1, 1]))
    axes = d.axes(x, least=1) if d.chance(0.8) and d.values[x].ndim else None
    inputs, given = d.either("axes", axes)
    noop = d.pick([0, 1, None]) if axes else d.pick([0, None, None, 1])
    d.node([x, *inputs], keepdims=d.pick([0, 1, None]), noop_with_empty_axes=noop, **given)


@draws("ArgMax ArgMin")
def arg(d: Draft) -> None:
    x = d.tensor(rank=(1, 5), least=1)
    d.node(
        [x],
        axis=d.pick([d.axis(x), None]),
        keepdims=d.pick([0, 1, None]),
        select_last_index=d.pick([0, 1, None]),
    )


@draws("CumSum CumProd")
def cumulative(d: Draft) -> None:
    x = d.tensor(rank=(1, 5))
    axis = d.ints(d.axis(x), d.pick(["int64", "int32"]))
    d.node([x, axis], exclusive=d.pick([0, 1, None]), reverse=d.pick([0, 1, None]))


@draws("TopK")
def top_k(d: Draft) -> None:
    """The order of what is not sorted is anybody's."""
    x = d.tensor(rank=(1, 5), least=1)
    axis = d.axis(x)
    k = d.random.randint(0 if d.chance(0.1) else 1, d.values[x].shape[axis])
    inputs, given = ([], {"k": k}) if d.has("k") else ([d.ints([k])], {})
    d.node([x, *inputs], 2, axis=axis, largest=d.pick([0, 1, None]), sorted=d.pick([1, None]), **given)


# --- by index ------------------------------------------------------------------------------------------------


def _indices(d: Draft, shape: tuple[int, ...], size: int, negative: bool = True) -> str:
    if size == 0:
        raise Illegal("nothing to pick")
    low = -size if negative and d.opset >= 11 and d.chance(0.4) else 0
    return d.leaf(d.pick(["int64", "int64", "int32"]), shape, (low, size - 1), "wwwccciii")


@draws("Gather")
def gather(d: Draft) -> None:
    data = d.leaf(d.dtype(d.types()), d.shape(1, 3, 1), roles="w") if d.chance(0.3) else d.tensor(rank=(1, 5))
    axis = d.axis(data)
    indices = _indices(d, d.shape(0, 3), d.values[data].shape[axis])
    d.node([data, indices], axis=axis if axis or d.chance(0.5) else None)


@draws("GatherElements")
def gather_elements(d: Draft) -> None:
    data = d.tensor(rank=(1, 4), least=1)
    axis, shape = d.axis(data), list(d.values[data].shape)
    size = shape[axis]
    shape = [d.random.randint(1, n) if d.chance(0.3) else n for n in shape]
    shape[axis] = d.random.randint(1, 5)
    d.node([data, _indices(d, tuple(shape), size)], axis=axis)


@draws("GatherND")
def gather_nd(d: Draft) -> None:
    data = d.tensor(rank=(1, 4), least=1)
    shape = d.values[data].shape
    batch = d.random.randint(0, len(shape) - 1) if d.has("batch_dims") and d.chance(0.4) else 0
    depth = d.random.randint(1, len(shape) - batch)
    sizes = shape[batch : batch + depth]
    places = (*shape[:batch], *d.shape(0 if batch else 1, 2, 1))
    indices = np.stack([d.numbers.integers(-n if d.chance(0.3) else 0, n, places) for n in sizes], -1)
    d.node([data, d.given(indices.astype("int64"))], batch_dims=batch or None)


def _distinct(d: Draft, sizes: tuple[int, ...], count: int) -> np.ndarray:
    """`count` different places in an array of these sizes, one row each."""
    flat = d.numbers.permutation(int(np.prod(sizes)))[:count]
    return np.stack(np.unravel_index(flat, sizes), -1).astype("int64")


REDUCTION = ("none", "add", "mul", "max", "min", None)


@draws("ScatterND")
def scatter_nd(d: Draft) -> None:
    data = d.tensor([t for t in d.types() if t != "bool"], rank=(1, 4), least=1)
    shape = d.values[data].shape
    depth = d.random.randint(1, len(shape))
    count = d.random.randint(1, min(4, int(np.prod(shape[:depth]))))
    rows = _distinct(d, shape[:depth], count)
    if d.chance(0.3):
        rows -= np.array(shape[:depth])
    updates = d.leaf(d.values[data].dtype.name, (count, *shape[depth:]), roles="iiw")
    d.node([data, d.given(rows), updates], reduction=d.pick(REDUCTION))


@draws("ScatterElements Scatter")
def scatter_elements(d: Draft) -> None:
    data = d.tensor([t for t in d.types() if t != "bool"], rank=(1, 4), least=1)
    shape = list(d.values[data].shape)
    axis = d.random.randrange(len(shape))
    size = shape[axis]
    shape[axis] = count = d.random.randint(1, size)
    order = np.argsort(d.numbers.random([*shape[:axis], size, *shape[axis + 1 :]]), axis=axis)
    indices = np.take(order, range(count), axis=axis)
    if d.opset >= 11 and d.chance(0.3):
        indices = np.where(d.numbers.random(indices.shape) < 0.5, indices, indices - size)
    updates = d.leaf(d.values[data].dtype.name, indices.shape, roles="iiw")
    d.node([data, d.given(indices.astype("int64")), updates], axis=axis, reduction=d.pick(REDUCTION))


@draws("OneHot")
def one_hot(d: Draft) -> None:
    depth = d.random.randint(1, 6)
    indices = d.leaf(d.pick(["int64", "int32", "float32"]), d.shape(0, 3), (-depth, depth - 1), "iiiwc")
    if d.values[indices].dtype.kind == "f":
        indices = d.given(np.trunc(d.values[indices]))
    values = d.given(d.array(d.pick(["float32", "int64", "int32"]), (2,)), roles="wci")
    d.node(
        [indices, d.given(np.array(d.pick([depth, [depth]]), "int64")), values],
        axis=d.pick([d.axis(indices, 1), None]),
    )


@draws("Slice")
def slice_(d: Draft) -> None:
    data = d.tensor(rank=(1, 5))
    axes = d.axes(data, least=1)
    starts, ends, steps = [], [], []
    for axis in axes:
        size = d.values[data].shape[axis]
        step = d.random.choices([1, 2, 3, -1, -2], [8, 2, 1, 2, 1])[0] if d.opset >= 10 else 1
        bounds = sorted(d.random.randint(0, size) for _ in range(2))
        low, high = (b - size if d.chance(0.3) and b < size else b for b in bounds)
        high = d.pick([high, high, 1 << 40, (1 << 63) - 1]) if step > 0 else high
        if step < 0:
            low, high = d.pick([high, size - 1, 1 << 40]), d.pick([low, -(1 << 40), -size - 1])
        starts.append(low), ends.append(high), steps.append(step)
    if d.has("starts"):
        d.node([data], starts=starts, ends=ends, axes=axes)
        return
    dtype = d.pick(["int64", "int64", "int32"]) if max(map(abs, starts + ends)) < 1 << 31 else "int64"
    whole = axes == list(range(len(axes))) and d.chance(0.5)
    inputs = [d.ints(starts, dtype), d.ints(ends, dtype), "" if whole else d.ints(axes, dtype)]
    d.node([data, *inputs, d.ints(steps, dtype) if set(steps) != {1} or d.chance(0.3) else ""])


@draws("Split")
def split(d: Draft) -> None:
    x = d.tensor(rank=(1, 5), least=1)
    axis = d.axis(x)
    size = d.values[x].shape[axis]
    count = d.random.randint(1, min(size, 4))
    cuts = sorted(d.random.randint(0, size) for _ in range(count - 1))
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
    equal = d.chance(0.3) and (size % count == 0 or d.has("num_outputs"))
    inputs, given = d.either("split", None if equal else sizes)
    d.node(
        [x, *inputs],
        count,
        axis=axis,
        num_outputs=count if equal else None,
        **given,
    )


@draws("Pad")
def pad(d: Draft) -> None:
    x = d.tensor(rank=(1, 5), least=1)
    shape, mode = d.values[x].shape, d.pick(["constant", "reflect", "edge", "wrap", None, None])
    axes = d.axes(x, least=1) if len(d.schema.inputs) > 3 and d.chance(0.3) else None
    sizes = shape if axes is None else [shape[axis] for axis in axes]
    most = [n - 1 if mode == "reflect" else n if mode == "wrap" else 3 for n in sizes] * 2
    pads = [0 if d.chance(0.4) else d.random.randint(0, min(n, 3)) for n in most]
    if d.chance(0.15):
        pads = [
            max(-n + 1, -1) if d.chance(0.4) and n > 2 else p
            for n, p in zip([*sizes, *sizes], pads, strict=True)
        ]
    number = round(d.random.uniform(-2, 2), 1)
    if d.has("pads"):
        d.node([x], pads=pads, mode=mode, value=d.pick([number, None]))
        return
    value = d.given(np.array(number).astype(d.values[x].dtype), (-2, 2), "wci") if d.chance(0.5) else ""
    d.node([x, d.ints(pads), value, "" if axes is None else d.ints(axes)], mode=mode)


@draws("Trilu")
def trilu(d: Draft) -> None:
    x = d.tensor(rank=(2, 5))
    k = d.ints(d.pick([0, 1, -1, 2, -3, 9, -9])) if d.chance(0.6) else ""
    d.node([x, k], upper=d.pick([0, 1, None]))


@draws("EyeLike")
def eye_like(d: Draft) -> None:
    d.node([d.tensor(rank=(2, 2))], k=d.pick([0, 1, -2, None]), dtype=d.pick([1, 7, None]))


@draws("ReverseSequence")
def reverse_sequence(d: Draft) -> None:
    x = d.tensor(rank=(2, 4), least=1)
    time = d.pick([0, 1])
    shape = d.values[x].shape
    lengths = d.leaf("int64", (shape[1 - time],), (1, shape[time]), "iwc")
    d.node([x, lengths], batch_axis=1 - time, time_axis=time)


@draws("Compress")
def compress(d: Draft) -> None:
    x = d.tensor(rank=(1, 4), least=1)
    axis = d.axis(x)
    d.node([x, d.leaf("bool", (d.values[x].shape[axis],), roles="wwi")], axis=axis)


@draws("NonZero")
def non_zero(d: Draft) -> None:
    d.node([d.tensor(rank=(1, 3))])


@draws("Unique")
def unique(d: Draft) -> None:
    d.node([d.tensor(rank=(1, 3), least=1)], [True, d.chance(0.3)])


# --- shapes --------------------------------------------------------------------------------------------------


@draws("Reshape")
def reshape(d: Draft) -> None:
    x = d.tensor()
    shape = list(d.values[x].shape)
    kind = d.random.random()
    if kind < 0.3 and len(shape) > 1:  # two axes become one
        at = d.random.randrange(len(shape) - 1)
        shape[at : at + 2] = [shape[at] * shape[at + 1]]
    elif kind < 0.6 and shape:  # one becomes two
        at = d.random.randrange(len(shape))
        part = d.pick([n for n in range(1, shape[at] + 1) if shape[at] % n == 0] or [1])
        shape[at : at + 1] = [part, shape[at] // part]
    elif kind < 0.8 or not all(shape):
        d.random.shuffle(shape)
    else:
        shape = [int(np.prod(shape))]
    same = [i for i, (a, b) in enumerate(zip(shape, d.values[x].shape, strict=False)) if a == b]
    shape = [0 if i in same and d.chance(0.3) else n for i, n in enumerate(shape)]
    if all(d.values[x].shape) and shape and d.chance(0.5):
        shape[d.random.randrange(len(shape))] = -1
    d.node([x, d.ints(np.array(shape, "int64"))])


@draws("Flatten")
def flatten(d: Draft) -> None:
    x = d.tensor()
    rank = d.values[x].ndim
    d.node([x], axis=d.pick([d.random.randint(-rank if d.opset >= 11 else 0, rank), None]) if rank else 0)


@draws("Squeeze")
def squeeze(d: Draft) -> None:
    x = d.tensor(fits=lambda array: 1 in array.shape, rank=(1, 5))
    ones = [i for i, n in enumerate(d.values[x].shape) if n == 1]
    axes = d.random.sample(ones, d.random.randint(1, len(ones)))
    axes = [a - d.values[x].ndim if d.opset >= 11 and d.chance(0.3) else a for a in axes]
    inputs, given = d.either("axes", d.pick([axes, axes, None]))
    d.node([x, *inputs], **given)


@draws("Unsqueeze")
def unsqueeze(d: Draft) -> None:
    x = d.tensor(rank=(0, 4))
    count = d.random.randint(1, 2)
    rank = d.values[x].ndim + count
    axes = d.random.sample(range(rank), count)
    axes = [axis - rank if d.opset >= 11 and d.chance(0.3) else axis for axis in axes]
    inputs, given = d.either("axes", axes)
    d.node([x, *inputs], **given)


@draws("Expand")
def expand(d: Draft) -> None:
    x = d.tensor()
    shape = [d.size() if n == 1 and d.chance(0.5) else 1 if d.chance(0.2) else n for n in d.values[x].shape]
    shape = [1 if d.chance(0.4) else d.size() for _ in range(max(0, d.random.randint(-3, 1)))] + shape
    d.node([x, d.ints(np.array(shape[d.pick([0, 0, 1]) :], "int64"))])


@draws("Tile")
def tile(d: Draft) -> None:
    x = d.tensor(rank=(0, 4))
    d.node([x, d.ints(np.array([d.pick([1, 1, 2, 3, 0]) for _ in d.values[x].shape], "int64"))])


@draws("Concat")
def concat(d: Draft) -> None:
    x = d.tensor(rank=(1, 5))
    axis, parts = d.axis(x), [x]
    for _ in range(d.random.randint(0, 2)):
        shape = list(d.values[x].shape)
        shape[axis] = d.size()
        parts.append(d.leaf(d.values[x].dtype.name, shape, roles="iiwc") if d.chance(0.8) else x)
    d.random.shuffle(parts)
    d.node(parts, axis=axis)


@draws("Transpose")
def transpose(d: Draft) -> None:
    x = d.tensor()
    perm = list(range(d.values[x].ndim))
    d.random.shuffle(perm)
    d.node([x], perm=perm if perm and d.chance(0.85) else None)


@draws("Shape Size")
def sizes(d: Draft) -> None:
    bound = d.random.randint(-2, 3)
    d.node([d.tensor(least=0)], start=d.pick([None, None, bound]), end=d.pick([None, None, bound + 1]))


@draws("ConstantOfShape")
def constant_of_shape(d: Draft) -> None:
    """Of the sizes of something."""
    x = d.tensor(["float32", "int64"], rank=(1, 4))
    d.op = "Shape"
    (sizes,) = d.node([x])
    d.op = "ConstantOfShape"
    from onnx.numpy_helper import from_array

    value = from_array(d.array(d.pick(["float32", "int64", "bool"]), (1,))) if d.chance(0.7) else None
    (made,) = d.node([sizes], value=value)
    if d.chance(0.5) and d.values[made].dtype == d.values[x].dtype:
        d.op = "Add"
        d.node([x, made])


@draws("Range")
def range_(d: Draft) -> None:
    """As many steps as an axis is long."""
    x = d.tensor(["float32", "int64"], rank=(1, 3), least=1)
    d.op = "Shape"
    (shape,) = d.node([x])
    d.op = "Gather"
    (limit,) = d.node([shape, d.ints(d.random.randrange(d.values[x].ndim))])
    d.op = "Range"
    d.node([d.ints(d.pick([0, 0, 1, -2])), limit, d.ints(d.pick([1, 1, 2, 3]))])


@draws("DepthToSpace SpaceToDepth")
def blocks(d: Draft) -> None:
    size, (n, c, h, w) = d.pick([1, 2, 2, 3]), d.shape(4, 4, 1)
    n, c, h, w = min(n, 3), min(c, 3), min(h, 5), min(w, 5)
    shape = (n, c * size**2, h, w) if d.op == "DepthToSpace" else (n, c, h * size, w * size)
    x = d.leaf(d.dtype(["float32", "float64"]), shape, roles="i")
    d.node([x], blocksize=size, mode=d.pick(["DCR", "CRD", None]))


# --- products ------------------------------------------------------------------------------------------------


@draws("MatMul")
def mat_mul(d: Draft) -> None:
    a = d.tensor(rank=(1, 5))
    shape, dtype = d.values[a].shape, d.values[a].dtype.name
    inner, columns = shape[-1], d.size()
    kind = d.random.random()
    if kind < 0.5:
        other = (inner, columns)
    elif kind < 0.6:
        other = (inner,)
    else:
        batch = [1 if d.chance(0.2) else n for n in shape[:-2]][d.pick([0, 0, 1]) :]
        other = (*(batch or d.shape(0, 1)), inner, columns)
    d.node([a, d.leaf(dtype, other, roles="wwiic")])


@draws("Gemm")
def gemm(d: Draft) -> None:
    a = d.tensor(rank=(2, 2))
    turned, flipped = d.pick([0, 0, 1]), d.pick([0, 1])
    shape, dtype = d.values[a].shape, d.values[a].dtype.name
    rows, inner = shape[::-1] if turned else shape
    columns = max(1, d.size())
    b = d.leaf(dtype, (columns, inner) if flipped else (inner, columns), roles="wwic")
    bias = d.pick([(columns,), (1, columns), (rows, 1), (rows, columns), (), (1,)])
    c = d.leaf(dtype, bias, roles="wwic") if d.opset < 11 or d.chance(0.7) else ""
    given = {name: round(d.random.uniform(-1, 2), 2) for name in ("alpha", "beta") if d.chance(0.3)}
    d.node([a, b, c], transA=turned or None, transB=flipped or None, **given)


@draws("Einsum")
def einsum(d: Draft) -> None:
    x = d.tensor(rank=(0, 4), least=1)
    arrays, terms = [x], ["".join(d.random.sample(string.ascii_letters[:6], d.values[x].ndim))]
    sizes = dict(zip(terms[0], d.values[x].shape, strict=True))
    for _ in range(d.random.choices([0, 1, 2], [2, 6, 1])[0]):
        term = "".join(d.random.sample(string.ascii_letters[:6], d.random.randint(0, 3)))
        sizes = {**{c: d.random.randint(1, 4) for c in term}, **sizes}
        arrays.append(d.leaf(d.values[x].dtype.name, [sizes[c] for c in term], roles="iiwc"))
        terms.append(term)
    if d.values[x].ndim > 1 and len(arrays) == 1 and d.chance(0.2):  # the diagonal
        n = d.random.randint(1, 4)
        arrays, terms, sizes = [d.leaf("float32", (n, n, 2), roles="i")], ["aab"], {"a": n, "b": 2}
    batch = "..." if terms[0] and d.chance(0.15) else ""
    terms[0] = batch + terms[0][len(batch) > 0 :]
    letters = sorted(set("".join(terms)) - set(batch))
    out = "".join(d.random.sample(letters, d.random.randint(0, len(letters))))
    equation = d.pick([",", " , "]).join(terms) + (f"->{batch}{out}" if d.chance(0.8) else "")
    d.node(arrays, equation=equation)
