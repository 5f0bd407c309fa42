"""How a node of each operator is drawn: legal inputs and attributes, as many kinds of them as there are. Here those
that work element by element or along axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from benchmarks.fuzz.draft import Draft

SHORT = (  # types of few bits, the first of which came before the others
    TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2,
    TensorProto.FLOAT8E5M2FNUZ,
)  # fmt: skip
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
    if d.op == "Cast" and d.opset >= 13 and d.chance(0.2):
        kinds = SHORT if d.opset >= 19 else SHORT[:1]
        d.through(d.tensor(["float32"]), d.pick(kinds))
        return
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
