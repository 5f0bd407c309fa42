"""Whether a file is a model at all: one that nothing runs, at any sizes, is the file's fault and none of `bridge`'s."""

from __future__ import annotations

import os

import onnx
import onnx_ir as ir

from bridge.errors import SourceError
from bridge.frontend.source import Source
from bridge.graph.rewriting import all_nodes
from bridge.passes import simplify
from bridge.passes.common import inline
from bridge.passes.infer_shapes import infer_shapes
from bridge.verification.inputs.sampler import Sampler
from bridge.verification.reference.as_given import as_given
from bridge.verification.trials import trials_that_run

ENDLESS = frozenset({"Loop", "Scan"})  # operators that the file itself says how often to repeat


def why_never_run(source: object, opened: Source | None) -> str | None:
    """What onnxruntime, or else ONNX's reference evaluator, says of a file that it runs at no sizes; None of one that
    it runs, and where that cannot be told. `opened` is the source once it has been read."""
    try:
        if opened is None:
            if isinstance(source, onnx.ModelProto | str | os.PathLike):
                as_given(os.fspath(source) if isinstance(source, os.PathLike) else source)
        elif opened.torch is None:
            _require_run(opened)
    except SourceError as error:
        return str(error)
    except Exception:  # the fault that is looked into
        return None
    return None


def _require_run(opened: Source) -> None:
    reference, _ = as_given(opened.given)
    model = _inferred(opened.model)
    if not any(node.op_type in ENDLESS for node in all_nodes(model)):
        sampler = Sampler.of(model, None, opened.asked)
        next(trials_that_run(reference, sampler, [], sampler.budget()))


def _inferred(model: ir.Model) -> ir.Model:
    """With all that is known of its sizes; what the passes know of them, unless it is them that fail."""
    try:
        return simplify(model)
    except Exception:  # the fault that is looked into
        copy = model.clone()
        inline(copy)
        infer_shapes(copy)
        return copy
