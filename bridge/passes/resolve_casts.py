"""CastLike -> Cast to the type it names, and no Cast where the type is the same already."""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.rewriting import Emitter, all_nodes, attribute, input_of, is_onnx, replace


def resolve_casts(model: ir.Model) -> None:
    for node in all_nodes(model):
        if not is_onnx(node, "Cast", "CastLike"):
            continue
        source, out = input_of(node, 0), node.outputs[0]
        wanted = input_of(node, 1).dtype if node.op_type == "CastLike" else ir.DataType(attribute(node, "to"))
        if wanted is None:
            continue
        if source.dtype == wanted and not out.is_graph_output():
            replace(out, source)
        elif node.op_type == "CastLike":
            how = {name: given.value for name, given in node.attributes.items()}
            replace(out, Emitter(node)("Cast", source, to=int(wanted), **how))
