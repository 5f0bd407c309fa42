"""What went wrong inside `bridge` itself, as one of its errors: the stage, the node, the torch path and the cause."""

from __future__ import annotations

from types import TracebackType

import onnx_ir as ir

from bridge.errors import InternalError, NotRun, short_message
from bridge.graph.provenance import torch_path
from bridge.ops.contract import Step


def fault(stage: str, error: Exception) -> InternalError:
    """The error that says of `error`, which nobody expected, where it arose."""
    node = _node(error.__traceback__)
    cause = error.__cause__ if isinstance(error, NotRun) and error.__cause__ else error
    where = ", ".join([stage, *getattr(error, "__notes__", ())]) + (
        "" if node is None else f" at {_named(node)}"
    )
    return InternalError(
        f"a fault of bridge itself in {where}: {type(cause).__name__}: {short_message(cause)}; "
        f"`bridge reduce SOURCE -o smallest.onnx` writes the smallest graph that shows it, for a report"
    )


def _node(trace: TracebackType | None) -> ir.Node | None:
    """The node that the innermost function was at work on."""
    found = None
    while trace is not None:
        for value in trace.tb_frame.f_locals.values():
            if isinstance(value, ir.Node | Step):
                found = value.node if isinstance(value, Step) else value
        trace = trace.tb_next
    return found


def _named(node: ir.Node) -> str:
    outputs = ", ".join(value.name or "?" for value in node.outputs)
    return f"{node.op_type} {torch_path(node) or f'(output {outputs})'}"
