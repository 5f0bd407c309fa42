"""A free size that becomes a number, in all that is known of sizes."""

from __future__ import annotations

import json

import onnx_ir as ir
from onnx_shape_inference import SYM_DATA_KEY

from bridge.graph.rewriting import all_nodes
from bridge.graph.shapes import Dim
from bridge.passes.normal_form import plain_symbol


def fix_size(model: ir.Model, name: str, size: int) -> None:
    values = [*model.graph.inputs, *(value for node in all_nodes(model) for value in node.outputs)]
    known: dict[str | None, Dim] = {}

    def fixed(dim: Dim) -> Dim:
        if isinstance(dim, int) or name not in dim.free_symbols():
            return dim
        if dim.value not in known:
            known[dim.value] = plain_symbol(dim.evaluate({name: size}))
        return known[dim.value]

    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape(map(fixed, value.shape))
        if (text := value.metadata_props.get(SYM_DATA_KEY)) is not None:
            sizes = [
                item if isinstance(item, int) else fixed(ir.SymbolicDim(item)) for item in json.loads(text)
            ]
            value.metadata_props[SYM_DATA_KEY] = json.dumps(
                [item if isinstance(item, int) else item.value for item in sizes]
            )
