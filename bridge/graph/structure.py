"""What a model gives, as its author named it: for each output the keys and places by which it is found."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

Path = tuple[str | int, ...]  # ("logits",), ("states", 0)


def plain(paths: Sequence[Path]) -> tuple[Path, ...]:
    """`paths`, where none of them has a name those of a flat list. What is alone in a list stands by itself: a tensor,
    or a container that holds all outputs, as Keras gives it."""
    if not any(isinstance(key, str) for path in paths for key in path):
        return listed(len(paths))
    while not isinstance(paths[0][0], str) and len({path[0] for path in paths}) == 1:
        paths = [path[1:] for path in paths]
    return tuple(paths)


def listed(count: int) -> tuple[Path, ...]:
    """The places of `count` outputs in a list; one stands by itself."""
    return ((),) if count == 1 else tuple((place,) for place in range(count))


def nested(paths: Sequence[Path], leaves: Sequence[object]) -> Any:
    """`leaves` in dicts and lists, each where its path says."""
    if paths and not paths[0]:
        return leaves[0]
    groups: dict[str | int, list[tuple[Path, object]]] = {}
    for (key, *rest), leaf in zip(paths, leaves, strict=True):
        groups.setdefault(key, []).append((tuple(rest), leaf))
    made = {key: nested(*map(list, zip(*inner, strict=True))) for key, inner in groups.items()}
    return made if any(isinstance(key, str) for key in made) else list(made.values())


def leaves(paths: Sequence[Path], found: Any) -> list[Any]:
    """What `nested` was given. Raises one of Python's lookup errors, or `TypeError`, where `found` is of another
    structure."""
    return [functools.reduce(operator.getitem, path, found) for path in paths]


def label(path: Path) -> str:
    """As a report calls it: `states.cell[0]`, and `output` of one without a name."""
    text = "".join(f".{key}" if isinstance(key, str) else f"[{key}]" for key in path).removeprefix(".")
    return text if text and text[0] != "[" else f"output{text}"


def name(path: Path) -> str:
    """As an output is called that has one name: `states_cell_0`, `output_1` of a list, `output` of one alone."""
    text = "_".join(map(str, path))
    return f"output_{text}" if text.isdigit() else text or "output"
