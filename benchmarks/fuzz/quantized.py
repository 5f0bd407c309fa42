"""How a node of each operator that computes with integers in the place of numbers is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.fuzz.draft import Draft
from benchmarks.fuzz.networks import window
from benchmarks.fuzz.operators import draws

BYTES = ("uint8", "int8")
MICROSOFT = "com.microsoft"


def _scale(d: Draft, *shape: int) -> str:
    return d.given(np.asarray(d.numbers.uniform(0.01, 0.3, shape)).astype("float32"), roles="wwwc")


def _zero(d: Draft, dtype: str, *shape: int) -> str:
    low = 0 if dtype[0] == "u" else -100
    return d.given(np.asarray(d.numbers.integers(low, 100, shape)).astype(dtype), roles="wwwc")


def _bytes(d: Draft, dtype: str, shape: tuple[int, ...], roles: str = "iiiiw") -> str:
    limits = np.iinfo(dtype)
    return d.leaf(dtype, shape, (limits.min, limits.max), roles)


def _number(d: Draft, dtype: str, shape: tuple[int, ...]) -> list[str]:
    """Integers with their scale and zero point."""
    return [_bytes(d, dtype, shape), _scale(d), _zero(d, dtype)]


def _result(d: Draft, dtype: str) -> list[str]:
    return [d.given(np.float32(d.random.uniform(0.05, 2.0)), roles="wwwc"), _zero(d, dtype)]


# --- there and back ------------------------------------------------------------------------------------------


def _along(d: Draft, x: str) -> tuple[tuple[int, ...], int | None]:
    """The shape of a scale for all, or of one for each part along an axis."""
    if d.opset < 13 or not d.values[x].ndim or d.chance(0.6):
        return (), None
    axis = d.axis(x)
    return (d.values[x].shape[axis],), axis


@draws("QuantizeLinear")
def quantize(d: Draft) -> None:
    x = d.tensor(["float32"], rank=(0, 4))
    shape, axis = _along(d, x)
    dtype = d.pick(BYTES)
    zero = _zero(d, dtype, *shape) if shape or d.chance(0.8) else ""
    (q,) = d.node([x, _scale(d, *shape), zero], axis=axis)
    if d.chance(0.5):  # as quantisers write it: and back
        d.op = "DequantizeLinear"
        back = _zero(d, d.values[q].dtype.name, *shape) if zero else ""
        d.node([q, _scale(d, *shape), back], axis=axis)


@draws("DequantizeLinear")
def dequantize(d: Draft) -> None:
    x = d.tensor(BYTES, rank=(0, 4)) if d.chance(0.5) else _bytes(d, d.pick(BYTES), d.shape(0, 4), "iiw")
    shape, axis = _along(d, x)
    zero = _zero(d, d.values[x].dtype.name, *shape) if d.chance(0.8) else ""
    d.node([x, _scale(d, *shape), zero], axis=axis)


@draws("DynamicQuantizeLinear")
def dynamic(d: Draft) -> None:
    d.node([d.tensor(["float32"], rank=(1, 4), least=1)], 3)


# --- products ------------------------------------------------------------------------------------------------


def _matrices(d: Draft, left: str, right: str) -> tuple[str, str, int]:
    """Two that are multiplied, and how many columns the second has."""
    rows, inner, columns = (d.random.randint(1, n) for n in (4, 9, 5))
    before = d.shape(0, 1, 1) if d.chance(0.4) else ()
    return (
        _bytes(d, left, (*before, rows, inner)), _bytes(d, right, (inner, columns), "wwwic"), columns,
    )  # fmt: skip


@draws("MatMulInteger")
def matmul_integer(d: Draft) -> None:
    left, right = d.pick(BYTES), d.pick(BYTES)
    a, b, columns = _matrices(d, left, right)
    zeros = [
        _zero(d, left) if d.chance(0.6) else "",
        _zero(d, right, *d.pick([(), (columns,)])) if d.chance(0.4) else "",
    ]
    d.node([a, b, *zeros])


@draws("QLinearMatMul")
def qlinear_matmul(d: Draft) -> None:
    left, right = d.pick(BYTES), d.pick(BYTES)
    a, b, columns = _matrices(d, left, right)
    shape = d.pick([(), (), (columns,)])
    d.node([a, _scale(d), _zero(d, left), b, _scale(d, *shape), _zero(d, right, *shape), *_result(d, left)])


def _convolved(d: Draft) -> tuple[str, str, str, str, dict[str, Any]]:
    """What is convolved, its kernel, the types of both, and the window."""
    left, right = d.pick(BYTES), d.pick(BYTES)
    sizes = tuple(d.random.randint(2, 6) for _ in range(d.pick([1, 2, 2])))
    channels = d.random.randint(1, 4)
    group = d.pick([1, 1, channels])
    given = window(d, sizes)
    kernel = (group * d.random.randint(1, 3), channels // group, *given.pop("kernel_shape"))
    x = _bytes(d, left, (d.pick([1, 2]), channels, *sizes))
    return x, _bytes(d, right, kernel, "wwwwic"), left, right, given | {"group": group}


@draws("ConvInteger")
def conv_integer(d: Draft) -> None:
    x, w, left, right, given = _convolved(d)
    zeros = [_zero(d, left) if d.chance(0.6) else "", _zero(d, right) if d.chance(0.3) else ""]
    d.node([x, w, *zeros], **given)


@draws("QLinearConv")
def qlinear_conv(d: Draft) -> None:
    x, w, left, right, given = _convolved(d)
    count = d.values[w].shape[0]
    shape = d.pick([(), (count,)])
    bias = d.leaf("int32", (count,), (-999, 999), "wwc") if d.chance(0.5) else ""
    zero = d.given(np.zeros(shape, right))
    d.node([x, _scale(d), _zero(d, left), w, _scale(d, *shape), zero, *_result(d, left), bias], **given)


@draws(f"{MICROSOFT}:QGemm")
def qgemm(d: Draft) -> None:
    left, right = "uint8", d.pick(BYTES)
    rows, inner, columns = (d.random.randint(1, n) for n in (4, 9, 5))
    turned, flipped = d.pick([0, 1]), d.pick([0, 1])
    a = _bytes(d, left, (inner, rows) if turned else (rows, inner))
    b = _bytes(d, right, (columns, inner) if flipped else (inner, columns), "wwwi")
    c = d.leaf("int32", (columns,), (-999, 999), "wwc") if d.chance(0.6) else ""
    result = _result(d, left) if d.chance(0.6) else []
    given = [a, _scale(d), _zero(d, left), b, _scale(d), _zero(d, right), c, *result]
    d.node(given, transA=turned, transB=flipped, alpha=d.pick([None, 0.5]))


@draws(f"{MICROSOFT}:MatMulIntegerToFloat {MICROSOFT}:DynamicQuantizeMatMul")
def to_float(d: Draft) -> None:
    right = d.pick(BYTES)
    a, b, columns = _matrices(d, "uint8", right)
    shape = d.pick([(), (columns,)])
    bias = d.leaf("float32", (columns,), roles="wwc") if d.chance(0.5) else ""
    if "Dynamic" in d.op:
        x = d.leaf("float32", d.values[a].shape, roles="i")
        d.node([x, b, _scale(d, *shape), _zero(d, right, *shape), bias])
    else:
        d.node([a, b, _scale(d), _scale(d, *shape), _zero(d, "uint8"), _zero(d, right, *shape), bias])


# --- of every number for itself, and pools -------------------------------------------------------------------


@draws(f"{MICROSOFT}:QLinearAdd {MICROSOFT}:QLinearMul")
def qlinear_binary(d: Draft) -> None:
    dtype, shape = d.pick(BYTES), d.shape(1, 4, 1)
    other = tuple(1 if d.chance(0.3) else n for n in shape)[d.random.randint(0, 1) :]
    d.node([*_number(d, dtype, shape), *_number(d, dtype, other), *_result(d, dtype)])


@draws(f"{MICROSOFT}:QLinearSigmoid {MICROSOFT}:QLinearLeakyRelu {MICROSOFT}:QLinearSoftmax")
def qlinear_unary(d: Draft) -> None:
    dtype = d.pick(BYTES)
    given: dict[str, Any] = {"alpha": 0.2} if "Leaky" in d.op else {}
    if "Softmax" in d.op:
        given = {"opset": d.opset, "axis": -1}
    scale = d.given(np.float32(1 / 256), roles="w") if "Leaky" not in d.op else _scale(d)
    d.node([*_number(d, dtype, d.shape(1, 4, 1)), scale, _zero(d, dtype)], **given)


@draws(f"{MICROSOFT}:QLinearConcat")
def qlinear_concat(d: Draft) -> None:
    dtype, shape = d.pick(BYTES), list(d.shape(1, 4, 1))
    axis, parts = d.random.randrange(len(shape)), list[str]()
    for _ in range(d.random.randint(1, 3)):
        shape[axis] = d.random.randint(1, 4)
        parts += _number(d, dtype, tuple(shape))
    d.node([*_result(d, dtype), *parts], axis=axis)


@draws(f"{MICROSOFT}:QLinearWhere")
def qlinear_where(d: Draft) -> None:
    dtype, shape = d.pick(BYTES), d.shape(1, 3, 1)
    condition = d.leaf("bool", shape, roles="iiw")
    d.node([condition, *_number(d, dtype, shape), *_number(d, dtype, shape), *_result(d, dtype)])


@draws(f"{MICROSOFT}:QLinearGlobalAveragePool {MICROSOFT}:QLinearAveragePool")
def qlinear_pool(d: Draft) -> None:
    dtype, shape = (
        d.pick(BYTES),
        (d.pick([1, 2]), d.pick([1, 3]), *(d.random.randint(2, 6) for _ in range(2))),
    )
    given: dict[str, Any] = {"channels_last": d.pick([0, 0, 1])}
    if "Global" not in d.op:
        last = given["channels_last"]
        sizes = shape[1:3] if last else shape[2:]
        given |= window(d, sizes) | {"count_include_pad": d.pick([0, 1, None]), "dilations": None}
    d.node([*_number(d, dtype, shape), *_result(d, dtype)], **given)
