"""A recipe as the sum of those that only move numbers: each element of such a one is an element of one parameter."""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest

from bridge.errors import WeightsError
from bridge.weights.recipes import Concat, Fill, Narrow, Param, Recipe, Reshape, Sum, Transpose


def addends(recipe: Recipe) -> list[Recipe]:
    """What the array is the sum of. Raises `WeightsError`, with the reason, where torch computes more than a sum."""
    match recipe:
        case Param():
            return [recipe]
        case Sum(left, right):
            return [*addends(left), *addends(right)]
        case Transpose(source) | Reshape(source) | Narrow(source):
            return [replace(recipe, source=part) for part in addends(source)]
        case Concat(sources, axis):
            rows = list(zip_longest(*map(addends, sources)))
            if not any(part is None for row in rows for part in row):
                return [Concat(tuple(row), axis) for row in rows]
            raise WeightsError("of some of its elements it has the sum of two parameters, and one of others")
        case Fill():
            raise WeightsError("some of its elements are constants in torch")
    raise WeightsError(f"torch computes it: {recipe}")
