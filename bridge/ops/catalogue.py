"""The table of operators: those that have builders, those that become others before, and those that are refused."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import onnx.defs

from bridge.frontend.onnx.defined import BEYOND, DEFINED
from bridge.frontend.onnx.expressions import LOWERINGS
from bridge.graph.functions import DOMAIN
from bridge.ops.contract import Operator
from bridge.ops.registry import builders
from bridge.passes import LOWERED

ONNX = "ai.onnx"
DOMAINS = (
    ONNX,
    "ai.onnx.ml",
    "ai.onnx.preview",
)  # whose operators are all listed, those that are refused too
WRITTEN, REFUSED = "written", "refused"  # in the place of a family


@dataclass(frozen=True)
class Entry:
    """An ONNX operator: the opsets that defined it anew, what its builder does with the order of axes, and the Keras
    layers it may become, or the operators."""

    family: str
    domain: str
    operator: str
    opsets: tuple[int, ...]
    layout: str
    becomes: tuple[str, ...]


def catalogue() -> list[Entry]:
    """The operators that are converted, by family; those that are written out in others last."""
    opsets = _opsets()
    built = [
        Entry(
            operator.family.rpartition(".")[2],
            operator.domain or ONNX,
            operator.op_type,
            opsets.get((operator.domain or ONNX, operator.op_type), ()),
            operator.layout.text,
            becomes(operator),
        )
        for operator in builders()
        if operator.domain or operator.op_type not in LOWERED
    ]
    known = {(entry.domain, entry.operator) for entry in built}
    written = {key: becomes for key, becomes in _written(opsets) if key not in known}
    return built + [
        Entry(WRITTEN, *key, opsets.get(key, ()), "", (becomes,)) for key, becomes in sorted(written.items())
    ]


def refused() -> list[Entry]:
    """The operators of ONNX that are in no table of ours."""
    known = {(entry.domain, entry.operator) for entry in catalogue()}
    return [
        Entry(REFUSED, *key, opsets, "", ()) for key, opsets in sorted(_opsets().items()) if key not in known
    ]


def becomes(operator: Operator) -> tuple[str, ...]:
    """The layers that nodes of the operator may become, by name; plain operations where it makes none."""
    return tuple(layer.__name__ for layer in operator.makes) or ("keras.ops",)


@functools.cache
def _opsets() -> dict[tuple[str, str], tuple[int, ...]]:
    found: dict[tuple[str, str], list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        domain = schema.domain or ONNX
        if domain in DOMAINS:
            found.setdefault((domain, schema.name), []).append(schema.since_version)
    return {key: tuple(sorted(versions)) for key, versions in found.items()}


def _written(opsets: dict[tuple[str, str], tuple[int, ...]]) -> Iterator[tuple[tuple[str, str], str]]:
    """Operators by domain and name, and what they become before the plan."""
    for domain, name in LOWERINGS:
        yield (domain or ONNX, name), "operators of ONNX"
    replaced = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.deprecated}
    for domain, name in opsets:
        if domain == ONNX and name in replaced:
            yield (domain, name), "what came after it"
        if domain != "ai.onnx.ml" and name in (*DEFINED, *BEYOND):
            yield (domain, name), "its definition"
        if domain == ONNX and name in LOWERED:
            yield (domain, name), LOWERED[name]


def markdown() -> str:
    """docs/operators.md."""
    rows = [
        f"| {'' if entry.domain == ONNX else entry.domain + '.'}{entry.operator} "
        f"| {', '.join(map(str, entry.opsets))} | {', '.join(entry.becomes)} |"
        for entry in [*catalogue(), *refused()]
        if entry.domain != DOMAIN
    ]
    return HEAD + "\n".join(sorted(rows, key=str.lower)) + "\n"


HEAD = """# Operators

`bridge ops --markdown` writes this page. Every operator of ONNX, with the opsets that defined it anew (of which any is
read), and those of onnxruntime's own domain that are converted. What an operator becomes is one of the Keras layers
that stand there, or else operations of `keras.ops`; an empty cell is an operator that is refused by name. Some are
refused in some of their forms: `bridge inspect` says which node of a model is, and why.

| operator | opsets | becomes |
|--|--|--|
"""
