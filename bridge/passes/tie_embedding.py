"""A table used both to look up and to project back (a language model's tied embedding) -> one tied layer."""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import Emitter, attribute, constant, replace
from bridge.weights.recipes import Param, Transpose
from bridge.weights.weight import Weight


def tie_embedding(model: ir.Model) -> None:
    lookups: dict[Param, list[ir.Node]] = {}
    projections: dict[Param, list[ir.Node]] = {}
    for node in model.graph:
        weight = next((w for w in map(constant, node.inputs[:2]) if isinstance(w, Weight)), None)
        match (node.op_type, weight.recipe if weight is not None else None):
            case "Gather", Param() as table if len(table.shape) == 2 and attribute(node, "axis", 0) == 0:
                lookups.setdefault(table, []).append(node)
            case (("Linear" | "MatMul"), Transpose(Param() as table, (1, 0))) if (
                constant(node.inputs[1]) is weight
            ):
                projections.setdefault(table, []).append(node)
    for table in lookups.keys() & projections.keys():
        shared = next(node.inputs[0] for node in lookups[table])
        for node in lookups[table]:
            replace(node.outputs[0], Emitter(node)("TiedEmbedding", shared, node.inputs[1], domain=DOMAIN))
        for node in projections[table]:
            emit = Emitter(node)
            out = emit("TiedProjection", node.inputs[0], shared, domain=DOMAIN)
            out.shape, out.dtype = node.outputs[0].shape, node.outputs[0].dtype
            replace(node.outputs[0], emit("Add", out, node.inputs[2]) if node.op_type == "Linear" else out)
