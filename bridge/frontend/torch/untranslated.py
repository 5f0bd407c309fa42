"""What has no translation into ONNX becomes a node of torch's own, so that torch goes on and the plan refuses all such
nodes at once, each with its reason."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import onnx
import onnx_ir as ir
import onnxscript
import torch
from torch.onnx._internal.exporter import _dispatching
from torch.utils import _pytree as pytree

from bridge.errors import Refusal
from bridge.frontend.torch.patches import replaced
from bridge.frontend.torch.refusals import called, refused
from bridge.graph.provenance import NO_BUILDER

DOMAIN = "torch"
_dispatch = _dispatching.dispatch


@contextlib.contextmanager
def going_on() -> Iterator[list[Refusal]]:
    """torch translating on behind an operator that it cannot translate; all of them."""
    found: list[Refusal] = []

    def dispatch(node: torch.fx.Node, registry: Any) -> tuple[Callable[..., Any], str]:
        return functools.partial(_translated, found, node, registry), "tried"

    with replaced([(_dispatching, "dispatch", dispatch, "ends at the first operator without a translation")]):
        yield found


def _translated(found: list[Refusal], node: torch.fx.Node, registry: Any, *args: Any, **options: Any) -> Any:
    """What the translation of `node` gives, or what stands for it."""
    try:
        translation, _ = _dispatch(node, registry)
        if translation is None:
            raise NotImplementedError
        return translation(*args, **options)
    except Exception as error:
        given = node.meta.get("val")
        results = given if isinstance(given, Sequence) else (given,)
        if not all(isinstance(result, torch.Tensor) for result in results):
            raise
        found.append(refused(node, error))
        inputs = [x for x in pytree.tree_leaves((args, options)) if isinstance(x, ir.Value)]
        outputs = _stand_in(called(node), len(inputs), len(results))(*inputs)
        first = outputs[0] if isinstance(outputs, Sequence) else outputs
        first.producer().meta[NO_BUILDER] = found[-1].reason
        return outputs if isinstance(given, Sequence) else first


def _stand_in(name: str, inputs: int, outputs: int) -> onnxscript.values.Op:
    formal = onnx.defs.OpSchema.FormalParameter
    schema = onnx.defs.OpSchema(
        name,
        DOMAIN,
        1,
        inputs=[formal(f"x{place}", f"X{place}") for place in range(inputs)],
        outputs=[formal(f"y{place}", f"Y{place}") for place in range(outputs)],
        type_constraints=[
            (kind, ["tensor(float)"], "")
            for kind in (
                *(f"X{place}" for place in range(inputs)),
                *(f"Y{place}" for place in range(outputs)),
            )
        ],
    )
    return onnxscript.values.Op(onnxscript.values.Opset(DOMAIN, 1), name, schema)
