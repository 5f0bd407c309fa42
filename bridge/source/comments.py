"""What the weights of a layer are made of, where that is not plain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from bridge.weights.recipes import Param, Recipe, Reshape, Transpose

if TYPE_CHECKING:
    from bridge.weights.entry import Entry

LONGEST = 240  # characters of a recipe


def comments(weights: Iterable[Entry]) -> Mapping[str, str]:
    """By the layer, a line for each of its variables that is no parameter of torch's with its axes in another order."""
    lines: dict[str, list[str]] = {}
    for entry in weights:
        if not _is_plain(entry.recipe):
            lines.setdefault(entry.layer, []).append(f"{entry.attribute}: {_short(entry.recipe)}")
    return {layer: "\n".join(found) for layer, found in lines.items()}


def _is_plain(recipe: Recipe) -> bool:
    while isinstance(recipe, Transpose | Reshape):
        recipe = recipe.source
    return isinstance(recipe, Param)


def _short(recipe: Recipe) -> str:
    """The recipe with the parameters as they are called in their module."""
    text = str(recipe)
    for name in sorted(recipe.names, key=len, reverse=True):
        text = text.replace(name, name.rpartition(".")[2])
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
