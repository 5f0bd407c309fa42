"""Sums of products. Keras multiplies matrices of integers in single precision, which holds 24 bits of them."""

from __future__ import annotations

import functools

import numpy as np
from keras import ops

from bridge.ops.contract import Refused, Tensor


def integers(*xs: Tensor) -> bool:
    return not any("float" in str(x.dtype) for x in xs)


def einsum(equation: str, *xs: Tensor) -> Tensor:
    """Keras's own, and for integers the same in their own type: a product of all, summed."""
    if not integers(*xs):
        return ops.einsum(equation, *xs)
    left, right = equation.split("->")
    terms = left.split(",")
    if any(len(set(term)) < len(term) for term in terms):
        raise Refused("an index stands twice in one operand of integers")
    names = right + "".join(dict.fromkeys(name for term in terms for name in term if name not in right))
    made = functools.reduce(ops.multiply, (_spread(x, t, names) for x, t in zip(xs, terms, strict=True)))
    summed = tuple(range(len(right), len(names)))
    return ops.cast(ops.sum(made, axis=summed), xs[0].dtype) if summed else made


def _spread(x: Tensor, term: str, names: str) -> Tensor:
    """`x`, whose axes are called `term`, with an axis for each of `names`, of size 1 where it has none."""
    here = np if isinstance(x, np.ndarray) else ops
    x = here.transpose(x, sorted(range(len(term)), key=lambda axis: names.index(term[axis])))
    return here.expand_dims(x, tuple(k for k, name in enumerate(names) if name not in term))
