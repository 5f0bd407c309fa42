"""What follows from constants and shapes -> constants: shapes reveal constants, and constants shapes."""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.rewriting import all_nodes
from bridge.passes.common import drop_unused
from bridge.passes.compress_to_gather import compress_to_gather
from bridge.passes.fixed_point import until_unchanged
from bridge.passes.fold_constants import fold_constants
from bridge.passes.infer_shapes import infer_shapes
from bridge.passes.resolve_branches import resolve_branches
from bridge.passes.resolve_casts import resolve_casts
from bridge.passes.resolve_sequences import resolve_sequences
from bridge.passes.sequence_to_split import sequence_to_split


def infer_and_fold(model: ir.Model) -> None:
    """Shapes, and what follows from constants; one reveals the other, until neither does."""
    until_unchanged("infer_and_fold", model, _learn)


def _learn(model: ir.Model) -> set[ir.Node]:
    """Gives the nodes that came or went."""
    before = set(all_nodes(model))
    infer_shapes(model)  # shapes, and the symbolic contents of shape arithmetic
    sequence_to_split(model)  # needs the size that is split
    resolve_sequences(model)  # as this does, and places that are folded
    resolve_casts(model)  # CastLike names its type, so that constants behind it fold; needs the types
    fold_constants(model)  # needs the shapes, for Reshape and Slice
    resolve_branches(model)  # needs the condition folded
    compress_to_gather(model)  # as does this
    drop_unused(model)
    return before ^ set(all_nodes(model))
