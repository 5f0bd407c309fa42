"""A model of an older opset -> the same model at `OPSET`, so that no later room knows about versions.

From one opset to the next an operator mostly learns new types, and then nothing has to be done. `adapters.py`
says what else changed: for each operator, below which opset its old form is read how. An adapter turns a node into its
newest form in place, with others put before it (`Old`), so that the names of outputs stay. What has no newer form is
refused by name. Sub-graphs are raised with the graph around them, model-local functions from the opset that they
import. Newer models are left as they are.

ONNX's own version converter refuses or changes one in ten of the forms that are not today's (`tests/opset_rows.txt`
has them), knows no functions, and takes no model of more than 2 GiB.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from bridge.errors import UnsupportedError
from bridge.frontend.onnx.adapters import ADAPTERS
from bridge.frontend.onnx.old import NoNewerForm, Old, Ranks
from bridge.graph.functions import OPSET

IR_VERSION = 11  # the first that knows OPSET


def raise_opset(model: ir.Model) -> None:
    """Raise every graph of `model` in place. Raises `UnsupportedError` with every node that has no newer form."""
    graphs: tuple[ir.Graph | ir.Function, ...] = (model.graph, *model.functions.values())
    refusals = [refusal for graph in graphs for refusal in raise_graph(graph)]
    if refusals:
        raise UnsupportedError(refusals)
    newest = max(graph.opset_imports[""] for graph in graphs)
    for graph in graphs:
        graph.opset_imports[""] = newest
    model.ir_version = max(model.ir_version or 0, IR_VERSION)


def raise_graph(graph: ir.Graph | ir.Function) -> list[str]:
    """Raise the graph of a model, or of a function, from the opset that it imports; returns the refusals."""
    version = imported(graph.opset_imports)
    refusals = _raise(graph, version, Ranks()) if version < OPSET else []
    graph.opset_imports.pop("ai.onnx", None)
    graph.opset_imports[""] = max(version, OPSET)
    return refusals


def imported(opset_imports: dict[str, int]) -> int:
    """The version of ONNX's own operators."""
    return opset_imports.get("", opset_imports.get("ai.onnx", OPSET))


def _raise(graph: Iterable[ir.Node], version: int, ranks: Ranks) -> list[str]:
    refusals = []
    for node in list(graph):
        for attribute in node.attributes.values():
            for body in _bodies(attribute):
                refusals += _raise(body, version, ranks)
        if node.domain == "":
            old = Old(node, ranks, version)
            try:
                _adapt(old)
            except NoNewerForm as reason:
                refusals.append(f"{node.op_type} at {_name(node)}: {reason} (opset {version})")
            else:
                ranks.infer(node, version)
    return refusals


def _name(node: ir.Node) -> str:
    return node.name or next((value.name for value in node.outputs if value.name), "")


def _bodies(attribute: ir.Attr) -> Iterable[ir.Graph]:
    if attribute.is_ref():
        return ()
    if attribute.type == ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else ()


def _adapt(old: Old) -> None:
    """Turn the node into its newest form."""
    if old.version < 6:
        old.node.attributes.pop("consumed_inputs", None)  # which inputs may be overwritten
    for below, adapt in ADAPTERS.get(old.node.op_type, ()):
        if old.version < below:
            adapt(old)
