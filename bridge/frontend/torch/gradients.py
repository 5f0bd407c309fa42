"""What trains: `GRADIENTS`, by torch's operator, where it gives no gradient although the formula has one, or trains
what a weight is computed of; and `detaching_no_grad()` for what forward computes under `torch.no_grad()`."""

from __future__ import annotations

import contextlib
import operator
import warnings
from typing import Any

import torch
from onnxscript import opset23 as op

from bridge.frontend.torch.axes import ints
from bridge.frontend.torch.formulas import aten, is_float, number
from bridge.frontend.torch.notes import Note
from bridge.frontend.torch.own_ops import STOP_GRADIENT, WEIGHT_NORM
from bridge.frontend.torch.patches import replaced
from bridge.frontend.torch.traced import Traced, Translations


def _detach(x: Traced) -> Traced:
    return STOP_GRADIENT(x) if is_float(x) else op.Identity(x)


def _embedding(
    weight: Traced,
    indices: Traced,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Traced:
    """The row at `padding_idx` does not train."""
    if scale_grad_by_freq:
        warnings.warn(
            Note(
                "an embedding with scale_grad_by_freq: in training torch divides the gradient of a row by how often it "
                "is looked up, and Keras does not"
            ),
            stacklevel=1,
        )
    rows = op.Gather(weight, indices)
    if padding_idx < 0:
        return rows
    padding = op.Unsqueeze(op.Equal(indices, number(padding_idx, indices)), ints(-1))
    return op.Where(padding, STOP_GRADIENT(rows), rows)


def _renormalised(weight: Traced, indices: Traced, max_norm: float, norm_type: float) -> Traced:
    raise NotImplementedError(
        f"an embedding with max_norm changes its weights in forward; normalise their rows before (torch.renorm(weight, "
        f"{norm_type:g}, 0, {max_norm:g})) and leave max_norm out"
    )


def _weight_norm(v: Traced, g: Traced, dim: int = 0) -> Traced:
    """Of every row along `dim`, or of the whole."""
    rank = len(v.shape)
    return WEIGHT_NORM(v, g, axes=[axis for axis in range(rank) if dim == -1 or axis != dim])


GRADIENTS: Translations = {
    aten.detach.default: _detach,
    aten.embedding.default: _embedding,
    aten.embedding_renorm.default: _renormalised,
    aten._weight_norm.default: _weight_norm,
}


# --- regions under no_grad, which an exported program has and its decomposition writes out in line ----------------

_decompose = torch.export.ExportedProgram.run_decompositions


def _run_decompositions(program: torch.export.ExportedProgram, *args: object, **options: Any) -> Any:
    """That of `program`, what comes out of a region without gradients detached; `program` stays as it is."""
    graphs = [m.graph for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    with contextlib.ExitStack() as stack:
        for graph in graphs:
            for node in list(graph.nodes):
                if node.target is torch.ops.higher_order.wrap_with_set_grad_enabled and node.args[0] is False:
                    _detach_outputs(node, stack)
        return _decompose(program, *args, **options)


def _detach_outputs(region: torch.fx.Node, stack: contextlib.ExitStack) -> None:
    """What reads an output of `region` reads it detached, until `stack` closes."""
    for taken in list(region.users):
        value = taken.meta.get("val")
        if taken.target is operator.getitem and isinstance(value, torch.Tensor) and value.is_floating_point():
            with taken.graph.inserting_after(taken):
                detached = taken.graph.call_function(aten.detach.default, (taken,))
            detached.meta.update(taken.meta)
            for user in [user for user in taken.users if user is not detached]:
                user.replace_input_with(taken, detached)
            stack.callback(taken.graph.erase_node, detached)
            stack.callback(detached.replace_all_uses_with, taken)


def detaching_no_grad() -> contextlib.AbstractContextManager[None]:
    """torch decomposing programs so that nothing in a region under `no_grad` trains."""
    why = "regions without gradients are written out in line"
    return replaced([(torch.export.ExportedProgram, "run_decompositions", _run_decompositions, why)])
