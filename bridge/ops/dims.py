"""Tensors whose sizes are symbolic, made of operations that Keras can save.

`keras.ops.shape` gives None for an unknown dim, so a functional model holds no shape arithmetic. What takes
its place: a vector as long as an axis of some tensor (`length`), the positions along it, their number, and
gathering by positions where a reshape has more unknown dims than its one -1.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import keras
import numpy as np
import onnx_ir as ir
import sympy
from keras import ops

from bridge.graph.shapes import Dim, formula
from bridge.ops.contract import Refused, Site, Step, Tensor

SMALL = (1, 2, 3, 8)  # sizes at which bounds are compared
RESHAPING = keras.layers.Flatten, keras.layers.Reshape  # the layers that `reshape` makes


def cast(x: Tensor, dtype: str) -> Tensor:
    """x in another dtype; a constant stays a numpy array."""
    return x.astype(dtype) if isinstance(x, np.ndarray) else ops.cast(x, dtype)


def add(a: Tensor | int, b: Tensor | int) -> Tensor:
    """a + b, whatever their shapes.

    On TensorFlow `keras.ops.add` takes a second operand with no more than one axis longer than 1 for a bias along
    axis 1 or the last axis, even if that axis is another one, if there is an axis of 0, or if it has more axes than
    the first; its subtraction has no such shortcut.
    """
    if _adds(a, b):
        return ops.add(a, b)
    if _adds(b, a):
        return ops.add(b, a)
    return ops.subtract(a, -b if isinstance(b, np.ndarray) else ops.subtract(ops.zeros_like(b), b))


def _adds(a: Tensor | int, b: Tensor | int) -> bool:
    """Whether `keras.ops.add` cannot mistake the axis of b."""
    first, second = np.shape(a), np.shape(b)
    if 0 in second:
        return len(first) < 2
    longer = [dim for dim in second if dim != 1]
    several = len([dim for dim in longer if dim is not None]) > 1
    is_last = 0 < len(second) <= len(first) and first[-1] == second[-1] and second[-1] not in (None, 0, 1)
    return len(first) < 2 or not longer or several or is_last


def length(site: Site, dim: Dim) -> Tensor:
    """A vector of zeros as long as `dim`: from a tensor that has such an axis, or joined from such vectors."""
    if isinstance(dim, int):
        return np.zeros(dim, "float32")
    try:
        return site.length(dim)
    except Refused:
        expression = _expression(dim)
        if expression.is_Symbol:
            raise
        return _length(site, expression)


def positions(site: Site, dim: Dim, dtype: str = "int32") -> Tensor:
    """0, 1, … dim - 1."""
    if isinstance(dim, int):
        return np.arange(dim, dtype=dtype)
    return ops.cumsum(ops.ones_like(length(site, dim), dtype=dtype)) - 1


def size(site: Site, dim: Dim, dtype: str = "int32") -> Tensor | int:
    """The number `dim`; a tensor where it is symbolic."""
    if isinstance(dim, int):
        return dim
    try:
        return ops.sum(ops.ones_like(length(site, dim), dtype=dtype))
    except Refused:
        return _number(site, _expression(dim), dtype)


def places(x: Tensor) -> Tensor:
    """Where the elements of x, in a row, are not zero. With torch Keras gives what it says is a tuple as a matrix."""
    return ops.reshape(ops.nonzero(ops.reshape(x, (-1,)))[0], (-1,))


def unknown_channels(step: Step) -> str | None:
    """Why what needs to know the number of channels refuses `step`."""
    channels = step.shape()[1]
    if isinstance(channels, int):
        return None
    return (
        f"the number of channels, {str(channels)!r}, is not known before it runs; fix the axes it depends on"
    )


def _number(site: Site, expression: sympy.Expr, dtype: str) -> Tensor | int:
    """`size` by arithmetic: sums, products and divisions of sizes, where no vector of such a length is had."""
    if expression.is_Integer:
        return int(expression)
    if isinstance(expression, sympy.floor):
        dividend, divisor = sympy.fraction(sympy.together(expression.args[0]))
        return ops.floor_divide(_number(site, dividend, dtype), _number(site, divisor, dtype))
    if expression.is_Add or expression.is_Mul:
        numbers = [_number(site, part, dtype) for part in expression.args]
        return functools.reduce(add if expression.is_Add else ops.multiply, numbers)
    return ops.sum(ops.ones_like(_length(site, expression), dtype=dtype))


def reshape(site: Site, x: Tensor, have: Sequence[Dim | None], want: Sequence[Dim]) -> Tensor:
    """x, whose dims are `have`, with the dims `want`."""
    if list(have) == list(want):
        return x
    unknown = [axis for axis, dim in enumerate(want) if not isinstance(dim, int)]
    sizes = [dim if isinstance(dim, int) else -1 for dim in want]
    if len(have) > 1 and len(want) > 1 and unknown[:1] == [0] and have[0] == want[0] and len(unknown) < 3:
        if len(want) == 2 and all(isinstance(dim, int) for dim in have[1:]):
            return site.layer(keras.layers.Flatten)(x)
        return site.layer(keras.layers.Reshape, target_shape=sizes[1:])(x)
    if 0 in want and unknown:
        return broadcast(site, x, [], want)
    if len(unknown) <= 1:
        return ops.reshape(x, sizes)
    last = unknown[-1] + 1
    return ops.take(ops.reshape(x, [-1, *sizes[last:]]), _numbered(site, want[:last]), axis=0)


def _numbered(site: Site, dims: Sequence[Dim]) -> Tensor:
    """0, 1, 2, … as an array with these dims."""
    numbers: Tensor = np.zeros((), "int32")
    for dim in dims:
        numbers = add(ops.multiply(ops.expand_dims(numbers, -1), size(site, dim)), positions(site, dim))
    return numbers


def require_size(x: Tensor, axis: int, low: int, high: int | None, step: int = 1) -> Tensor:
    """x as it is, if its size along `axis` is one of low, low + step, … high; else an error of the backend, at a
    reshape of as many places to as many as there may be."""
    corner = x[tuple(slice(None) if i == axis else slice(0, 1) for i in range(len(x.shape)))]
    flat = ops.reshape(ops.zeros_like(corner, dtype="int32"), (-1,))
    parts = [ops.reshape(flat[(slice(low),)], (low,)), ops.reshape(flat[(slice(low, None),)], (-1, step))]
    if high is not None:
        none = np.zeros(high, "int32")
        parts.append(ops.reshape(ops.concatenate([none, flat[(slice(high, None),)]]), (high,)))
    zero = sum(map(ops.sum, parts))
    return ops.logical_or(x, ops.cast(zero, "bool")) if x.dtype == "bool" else x - ops.cast(zero, x.dtype)


def broadcast(site: Site, x: Tensor, have: Sequence[Dim], want: Sequence[Dim]) -> Tensor:
    """x, whose dims are `have`, repeated to the dims `want`."""
    have = [1] * (len(want) - len(have)) + list(have)
    if all(isinstance(dim, int) for dim in want):
        return ops.broadcast_to(x, want)
    if 0 in want:  # a constant without elements would lose its sizes in the file
        whole = broadcast(site, np.zeros((), site.dtype), [], [dim or 1 for dim in want])
        return whole[tuple(slice(0 if dim == 0 else None) for dim in want)]
    for axis, (old, new) in enumerate(zip(have, want, strict=True)):
        if old != new:
            zeros = cast(ops.reshape(length(site, new), [-1] + [1] * (len(want) - axis - 1)), site.dtype)
            x = ops.logical_or(x, zeros) if site.dtype == "bool" else add(x, zeros)
    missing = len(want) - len(x.shape)
    return ops.expand_dims(x, list(range(missing))) if missing else x


def difference(a: Dim, b: Dim) -> int | None:
    """a - b, where it is a number whatever the sizes are."""
    value = sympy.simplify(_expression(a) - _expression(b))
    return int(value) if value.is_Integer else None


def may_exceed(a: Dim, b: Dim) -> bool:
    """Whether a > b for some small sizes of what they hang on."""
    rest = _expression(a) - _expression(b)
    symbols = sorted(rest.free_symbols, key=str)
    choices = itertools.product(SMALL, repeat=len(symbols))
    return any(rest.subs(list(zip(symbols, choice, strict=True))) > 0 for choice in choices)


def _expression(dim: Dim) -> sympy.Expr:
    if isinstance(dim, int):
        return sympy.Integer(dim)
    if dim.value is None:
        raise Refused("a size that nothing is known of")
    return formula(dim)


def _length(site: Site, expression: sympy.Expr) -> Tensor:
    """`length` of sums, products, and divisions rounded down or up."""
    if expression.is_Symbol or expression.is_Integer:
        return length(site, int(expression) if expression.is_Integer else ir.SymbolicDim(expression))
    if isinstance(expression, sympy.Max):
        rest = [part for part in expression.args if part != 0]
        if len(rest) == 1:
            return _length(site, rest[0])
    if isinstance(expression, sympy.Min):
        number, rest = expression.args
        if number.is_Integer and len(expression.args) == 2:
            return _length(site, rest)[: int(number)]
    if expression.is_Pow and expression.exp.is_Integer and expression.exp > 0:
        return _outer([_length(site, expression.base)] * int(expression.exp))
    if expression.is_Add:
        return _joined(site, expression)
    whole, step, start = expression, sympy.Integer(1), sympy.Integer(0)
    if isinstance(expression, sympy.floor):
        expression, step = sympy.fraction(sympy.together(expression.args[0]))
        start = step - 1
    elif isinstance(-expression, sympy.floor):
        expression, step = sympy.fraction(sympy.together(-(-expression).args[0]))
    elif expression.is_Mul:
        expression, step = sympy.fraction(expression)
    if step != 1 and step.is_Integer:
        return _length(site, expression)[(slice(int(start), None, int(step)),)]
    factor, rest = expression.as_coeff_Mul()
    if step == 1 and factor.is_Integer and factor < -1:
        return _outer([_length(site, -factor), _length(site, -rest)])
    if step == 1 and expression.is_Mul and all(part.is_nonnegative for part in expression.args):
        return _outer([_length(site, part) for part in expression.args])
    raise Refused(f"no tensor has the size {whole}, and how it is computed is not followed; fix the axes")


def _joined(site: Site, expression: sympy.Expr) -> Tensor:
    for term in sympy.Add.make_args(expression):
        if isinstance(-term, sympy.floor):  # n - floor(x) is -floor(x - n)
            rest = -sympy.floor(sympy.expand((-term).args[0] - (expression - term)))
            return _length(site, rest) if not rest.is_Add else _summed(site, rest)
    return _summed(site, expression)


def _summed(site: Site, expression: sympy.Expr) -> Tensor:
    number, rest = expression.as_coeff_Add()
    parts = [_length(site, part) for part in sympy.Add.make_args(rest)]
    if number > 0:
        parts.append(np.zeros(int(number), "float32"))
    whole = ops.concatenate([ops.cast(part, "float32") for part in parts]) if len(parts) > 1 else parts[0]
    return whole[(slice(-int(number), None),)] if number < 0 else whole


def _outer(parts: Sequence[Tensor]) -> Tensor:
    return functools.reduce(lambda a, b: ops.reshape(add(ops.expand_dims(a, 1), b), (-1,)), parts)
