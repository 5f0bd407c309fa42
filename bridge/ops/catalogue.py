"""The table of operators, as the registry has them."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.ops.contract import Operator
from bridge.ops.registry import builders


@dataclass(frozen=True)
class Entry:
    """An ONNX operator: what its builder does with the order of axes, and the Keras layers it may become."""

    family: str
    domain: str
    operator: str
    layout: str
    becomes: tuple[str, ...]


def catalogue() -> list[Entry]:
    return [
        Entry(
            operator.family.rpartition(".")[2],
            operator.domain or "ai.onnx",
            operator.op_type,
            operator.layout.text,
            becomes(operator),
        )
        for operator in builders()
    ]


def becomes(operator: Operator) -> tuple[str, ...]:
    """The layers that nodes of the operator may become, by name; plain operations where it makes none."""
    return tuple(layer.__name__ for layer in operator.makes) or ("keras.ops",)
