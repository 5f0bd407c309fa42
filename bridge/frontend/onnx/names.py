"""The texts of a file that later rooms would read: names of sizes, and what exporters wrote beside nodes.

Sizes are symbols of an algebra from here on, so a name that an algebra could read in another way (`9**9`, `seq/len`,
`7`) becomes a plain one; equal names stay equal. One without a letter or digit (`?`) says nothing: any size, which an
input names by itself and the axis.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import onnx_ir as ir

from bridge.errors import readable
from bridge.graph.shapes import Dim, shape_of

MAX_LENGTH = 64  # of the name of a size
MAX_SCOPES = 10_000  # characters that say which torch modules a node stands in
SCOPES = "pkg.torch.onnx.name_scopes"
LIST_OF_NAMES = re.compile(r"""\[(?:{0}(?:, {0})*)?\]""".format(r"""(?:'[^'\\]*'|"[^"\\]*")"""))
HINTS = (SCOPES, "pkg.torch.onnx.stack_trace")
RENAMED = "renamed_sizes"  # in the model's meta: {name in the file: name here}


def name_sizes(model: ir.Model) -> None:
    """Give every size a plain name; `model.meta[RENAMED]` says which were called otherwise."""
    values = [value for value in _values(model) if value.shape is not None]
    found = {
        dim.value for value in values for dim in shape_of(value) if not isinstance(dim, int) and dim.value
    }
    found = {name for name in found if re.search(r"\w", name)}
    taken = set(filter(_plain, found))
    renamed = {}
    for name in sorted(found - taken):
        renamed[name] = _fresh(name, taken)
        taken.add(renamed[name])

    def plain(dim: int | ir.SymbolicDim) -> int | str | None:
        if isinstance(dim, int):
            return None if dim < 0 else dim  # as onnxruntime reads it: any size
        name = renamed.get(str(dim.value), dim.value)
        return name if name in taken else None

    for value in values:
        value.shape = ir.Shape(map(plain, shape_of(value)))
    for value in model.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape(_own(value, axis, dim, taken) for axis, dim in enumerate(value.shape))
    model.meta[RENAMED] = renamed


def _own(value: ir.Value, axis: int, dim: Dim, taken: set[str]) -> Dim:
    """The size of an axis of an input, under a name of its own where it has none."""
    if isinstance(dim, int) or dim.value is not None:
        return dim
    taken.add(name := _fresh(f"{value.name}_{axis}", taken))
    return ir.SymbolicDim(name)


def renamed(model: ir.Model) -> tuple[str, ...]:
    """What a report says of sizes that are called otherwise in the file."""
    pairs = (f"{readable(old)!r} is {new}" for old, new in model.meta.get(RENAMED, {}).items())
    return (f"sizes named otherwise than in the file: {', '.join(pairs)}",) if model.meta.get(RENAMED) else ()


def _plain(name: str) -> bool:
    return name.isidentifier() and len(name) <= MAX_LENGTH


def _fresh(name: str, taken: set[str]) -> str:
    """`batch size` as batch_size; `9**9` as size_9_9; with a number where that is taken."""
    words = re.sub(r"\W+", "_", name).strip("_")[: MAX_LENGTH - 16]
    words = words if words.isidentifier() else f"size_{words}".strip("_")
    words = words if words.isidentifier() else "size"
    numbered = itertools.chain([words], (f"{words}_{number}" for number in itertools.count(2)))
    return next(plain for plain in numbered if plain not in taken)


def drop_hints(model: ir.Model) -> None:
    """Forget what the file says of its values' contents, and hints about nodes that are not what torch writes."""
    for value in _values(model):
        value.metadata_props.clear()
    for graph in _graphs(model):
        for node in graph:
            hints = {hint: node.metadata_props[hint] for hint in HINTS if hint in node.metadata_props}
            shown = all(line.isprintable() for text in hints.values() for line in text.splitlines())
            if not shown or SCOPES in hints and not _is_list_of_names(hints[SCOPES]):
                for hint in hints:
                    node.metadata_props.pop(hint)


def _is_list_of_names(text: str) -> bool:
    return len(text) <= MAX_SCOPES and LIST_OF_NAMES.fullmatch(text) is not None


def _graphs(model: ir.Model) -> Iterator[ir.Graph | ir.Function]:
    yield model.graph
    yield from model.graph.subgraphs()
    for function in model.functions.values():
        yield function
        yield from function.subgraphs()


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in _graphs(model):
        yield from graph.inputs
        if isinstance(graph, ir.Graph):
            yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs
