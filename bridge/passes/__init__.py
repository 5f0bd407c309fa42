"""From the exporter's graph to one whose nodes are the layers a person would name. One file, one idea.

A pass takes an `onnx_ir.Model` and changes it in place. Whatever it makes, onnxruntime can run (operators of our
own have bodies, `bridge.functions`), so a wrong pass is found by running the graph after each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes import common

from bridge.errors import SourceError, said
from bridge.functions import DOMAIN
from bridge.passes.activation import activation
from bridge.passes.cancel import cancel
from bridge.passes.cast import cast
from bridge.passes.decide import decide
from bridge.passes.fold import fold
from bridge.passes.identity import identity
from bridge.passes.infer import infer
from bridge.passes.linear import linear
from bridge.passes.mask import mask
from bridge.passes.normalization import normalization
from bridge.passes.pad import pad
from bridge.passes.recurrent import recurrent
from bridge.passes.regroup import regroup
from bridge.passes.scatter import scatter
from bridge.passes.select import select
from bridge.passes.sequence import sequence
from bridge.passes.settle import settle
from bridge.passes.shared import shared
from bridge.passes.tied import tied

if TYPE_CHECKING:
    from collections.abc import Callable


def inline(model: ir.Model) -> None:
    """Raises `SourceError` where a call does not fit its function."""
    try:
        common.InlinePass(criteria=lambda function: function.domain != DOMAIN)(model)
    except ValueError as error:
        raise SourceError(f"a function cannot be written out: {said(error)}") from error


def lift_constants(model: ir.Model) -> None:
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def drop_unused(model: ir.Model) -> None:
    common.RemoveUnusedNodesPass()(model)


def drop_functions(model: ir.Model) -> None:
    common.RemoveUnusedFunctionsPass()(model)


def know(model: ir.Model) -> None:
    """Shapes, and what follows from constants; one reveals the other, until neither does."""
    settle("know", model, _learn)


def _learn(model: ir.Model) -> set[ir.Node]:
    """Gives the nodes that came or went."""
    before = set(model.graph)
    infer(model)  # shapes, and the symbolic contents of shape arithmetic
    sequence(model)  # needs the size that is split
    cast(model)  # CastLike names its type, so that constants behind it fold; needs the types
    fold(model)  # needs the shapes, for Reshape and Slice
    decide(model)  # needs the condition folded
    select(model)  # as does this
    drop_unused(model)
    return before ^ set(model.graph)


PASSES: tuple[Callable[[ir.Model], None], ...] = (
    inline,  # first, so that the others see operators and not calls
    lift_constants,  # a constant is an initializer, whoever wrote it
    identity,  # copies stand between the nodes that belong together
    know,  # weights reach their consumers, shape arithmetic its Reshape and Slice
    mask,  # numbers written where a mask is true; before anything reads how many there are
    pad,  # a convolution and its padding are one; needs the amounts
    activation,  # written in single steps; needs the numbers folded
    normalization,  # as are these; needs the sizes
    recurrent,  # ONNX's recurrent nodes become ours; needs W, R and B whole
    infer,  # shapes of what recurrent made
    cancel,  # stacks that are taken apart again, most of them made by recurrent
    scatter,  # rows written side by side; needs slices of everything gone, and the sizes
    linear,  # MatMul and Add become one Dense; needs folded weights
    tied,  # an embedding that is also the output layer; needs Linear
    drop_unused,  # a node that nobody reads is no reader
    shared,  # a matrix that is several layers' kernel; needs Linear, and its readers alone
    regroup,  # reshapes in their plainest form, so that no axis has to move; needs Linear
    identity,  # what the others left between nodes
    drop_unused,  # the nodes nobody reads any more
    drop_functions,  # last: the bodies of those of our operators that no node became
)


def simplify(model: ir.Model, after: Callable[[str, ir.Model], None] | None = None) -> ir.Model:
    """A copy of `model` that all passes have seen; the weights are shared, `model` stays what it was.

    `after` is called with the name of each pass that has run, and the graph as it left it.
    """
    simple = model.clone()
    simple.meta.update(model.meta)
    for run in PASSES:
        try:
            run(simple)
        except Exception as error:
            error.add_note(f"pass {run.__name__}")
            raise
        if after is not None:
            after(run.__name__, simple)
    return simple
