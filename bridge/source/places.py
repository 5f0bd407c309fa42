"""Where in torch a layer or an operation stands: the modules around it, by what the report tells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import keras

if TYPE_CHECKING:
    from bridge.report.report import Report

WEIGHT = "weight"  # in a path, before a layer's name: a weight by itself, which is no module of torch's
LIMITS = re.compile(r"(limits_of_\w+?)_[a-z_]*?(_\d+)*")  # as the operations are called that look at a size
KINDS = {  # of what is no module of torch's
    WEIGHT: "A weight by itself, the one row of an Embedding",
    "limits": "An error where the model is not good for the size of an axis",
}
Path: TypeAlias = tuple[str, ...]  # the names on the way to a torch module


class Places:
    """The torch modules of a conversion. They decide how the source is parted, never what it says."""

    def __init__(self, report: Report):
        self.classes = {_path(path): kind for path, kind in report.modules.items()}
        rows = [(row.name, _path(row.path)) for row in report.rows if row.path in report.modules]
        self.by_name = {name: path for name, path in reversed(rows) if name}
        known = {path[:end] for path in self.classes for end in range(len(path) + 1)}
        self._by_text = {plain("_".join(path)): path for path in sorted(known, key=len, reverse=True)}

    def of(self, operation: Any) -> Path:
        """The module of a call: by its layer, or as an operation is called after it, with its kind and a number."""
        if isinstance(operation, keras.layers.Layer) and operation.name in self.by_name:
            return self.by_name[operation.name]
        if limits := LIMITS.fullmatch(operation.name):
            return (limits[1],)
        kind = re.sub(r"(?<!^)(?=[A-Z])", "_", type(operation).__name__).lower()
        found = re.fullmatch(rf"(.*?)_?{kind}(_\d+)*", operation.name)
        return self._by_text.get(found[1], ()) if found else self._by_text.get(operation.name, ())

    def class_of(self, path: Path) -> str:
        """The class of the module at `path`, with the package that it is of; "" where nobody knows."""
        if path and path[-1].startswith(f"{WEIGHT} "):
            return WEIGHT
        if path and path[-1].startswith("limits_of_") and path not in self.classes:
            return "limits"
        return self.classes.get(path, "")


def plain(text: str) -> str:
    """As the names of layers are made of those of modules."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")


def common(paths: Sequence[Path]) -> Path:
    """The innermost module in which all `paths` are."""
    shortest = min(paths, key=len)
    for end, name in enumerate(shortest):
        if any(path[end] != name for path in paths):
            return shortest[:end]
    return shortest


def _path(text: str) -> Path:
    return tuple(text.split(".")) if text else ()
