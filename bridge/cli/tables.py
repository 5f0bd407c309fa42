"""Tables of plain text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.ops.catalogue import Entry


def aligned(entries: Sequence[Entry]) -> str:
    """A table in columns, each as wide as it has to be."""
    rows = [
        (
            entry.family,
            entry.operator if entry.domain == "ai.onnx" else f"{entry.domain}.{entry.operator}",
            entry.layout,
            short(entry.becomes),
        )
        for entry in entries
    ]
    rows = [("family", "operator", "order of axes", "becomes"), *rows]
    widths = [max(map(len, column)) for column in zip(*rows[1:], strict=True)]
    cells = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in cells)


def short(layers: Sequence[str]) -> str:
    """`Conv1D, Conv2D, Conv3D` as `Conv1D/2D/3D`."""
    ranks: dict[str, list[str]] = {}
    for layer in layers:
        rank = re.search(r"[123]D", layer)
        ranks.setdefault(layer.replace(rank[0], "{}") if rank else layer, []).append(rank[0] if rank else "")
    return ", ".join(name.format("/".join(found)) for name, found in ranks.items())
