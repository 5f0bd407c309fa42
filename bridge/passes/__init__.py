"""From the exporter's graph to one whose nodes are the layers a person would name. One file, one idea.

A pass takes an `onnx_ir.Model` and changes it in place. Whatever it makes, onnxruntime can run (operators of our
own have bodies, `bridge.graph.functions`), so a wrong pass is found by running the graph after each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from bridge.graph.functions import add_functions
from bridge.passes.cancel_inverses import cancel_inverses
from bridge.passes.common import drop_functions, drop_unused, inline, lift_constants, name_values
from bridge.passes.cut_padding import cut_padding
from bridge.passes.fuse_activation import fuse_activation
from bridge.passes.fuse_cells import fuse_cells
from bridge.passes.fuse_linear import fuse_linear
from bridge.passes.fuse_normalization import fuse_normalization
from bridge.passes.fuse_pad import fuse_pad
from bridge.passes.infer_and_fold import infer_and_fold
from bridge.passes.infer_shapes import infer_shapes
from bridge.passes.keep_state import keep_state
from bridge.passes.lower_recurrent import lower_recurrent
from bridge.passes.remove_identities import remove_identities
from bridge.passes.scans_to_layers import scans_to_layers
from bridge.passes.scatter_to_concat import scatter_to_concat
from bridge.passes.scatter_to_where import scatter_to_where
from bridge.passes.settle_branches import settle_branches
from bridge.passes.share_kernels import share_kernels
from bridge.passes.simplify_reshapes import simplify_reshapes
from bridge.passes.tie_embedding import tie_embedding
from bridge.passes.unroll_loops import unroll_loops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


PASSES: tuple[Callable[[ir.Model], None], ...] = (
    inline,  # first, so that the others see operators and not calls
    lift_constants,  # a constant is an initializer, whoever wrote it
    remove_identities,  # copies stand between the nodes that belong together
    infer_and_fold,  # weights reach their consumers, shape arithmetic its Reshape and Slice
    settle_branches,  # those of several ranks; needs all that sizes say
    fuse_cells,  # recurrent steps written out; needs weights whole, and no activation of theirs fused otherwise
    scans_to_layers,  # loops over cells; needs the cells
    unroll_loops,  # those left that run a few times
    scatter_to_where,  # numbers written where a mask is true; before anything reads how many there are
    fuse_pad,  # a convolution and its padding are one; needs the amounts
    cut_padding,  # what of it is cut off again
    fuse_activation,  # written in single steps; needs the numbers folded
    fuse_normalization,  # as are these; needs the sizes
    lower_recurrent,  # ONNX's recurrent nodes become ours; needs W, R and B whole
    infer_shapes,  # shapes of what recurrent made
    cancel_inverses,  # stacks that are taken apart again, most of them made by recurrent
    scatter_to_concat,  # rows written side by side; needs slices of everything gone, and the sizes
    fuse_linear,  # MatMul and Add become one Dense; needs folded weights
    tie_embedding,  # an embedding that is also the output layer; needs Linear
    drop_unused,  # a node that nobody reads is no reader
    share_kernels,  # a matrix that is several layers' kernel; needs Linear, and its readers alone
    simplify_reshapes,  # reshapes in their plainest form, so that no axis has to move; needs Linear
    remove_identities,  # what the others left between nodes
    keep_state,  # of a model that is to take pieces of a sequence; needs every layer as it will be built
    drop_unused,  # the nodes nobody reads any more
    name_values,  # what the others made in several graphs
    drop_functions,  # last: the bodies of those of our operators that no node became
)


LOWERED = {  # operators that nothing is built of, and what the passes make of them where they can
    "Constant": "a weight or a constant",
    "GRU": "bridge.GRU",
    "Gemm": "bridge.Linear",
    "LSTM": "bridge.LSTM",
    "RNN": "bridge.RNN",
    "ConcatFromSequence": "Concat",
    "MelWeightMatrix": "a constant",
    "Optional": "what it holds",
    "OptionalGetElement": "what is held",
    "OptionalHasElement": "a constant",
    "SequenceAt": "a part",
    "SequenceConstruct": "its parts",
    "SequenceEmpty": "its parts",
    "SequenceErase": "its parts",
    "SequenceInsert": "its parts",
    "SequenceLength": "a constant",
    "SequenceMap": "its body for each part",
    "SplitToSequence": "Split",
}


def simplify(model: ir.Model) -> ir.Model:
    """A copy of `model` that all passes have seen; the weights are shared, `model` stays what it was."""
    *_, (_, simple) = simplifying(model)
    add_functions(simple)
    return simple


def simplifying(model: ir.Model) -> Iterator[tuple[str, ir.Model]]:
    """The name of each pass that has run, and the one copy of `model` that all of them change, as it left it."""
    simple = model.clone()
    simple.meta.update(model.meta)
    for run in PASSES:
        try:
            run(simple)
        except Exception as error:
            error.add_note(f"pass {run.__name__}")
            raise
        yield run.__name__, simple
