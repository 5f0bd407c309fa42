"""The functions of an `.onnx` file: they end, stand in no other operator's place, and refer to what there is."""

from __future__ import annotations

from collections import Counter

import onnx

from bridge.errors import SourceError, readable
from bridge.graph.functions import DOMAIN as OURS
from bridge.graph.functions import is_ours
from bridge.graph.walk import Graph, nodes_in

MAX_NODES = 1000  # that functions may add where they are written out
MAX_GROWTH = 50  # times the nodes of the file, which they may be instead


def check_functions(proto: onnx.ModelProto, where: str) -> None:
    """Raise `SourceError` for functions that are none."""
    _check_names(proto, where)
    _check_references(proto, where)
    _check_calls(proto, where)


def _check_names(proto: onnx.ModelProto, where: str) -> None:
    """No function stands in the place of one of ONNX's operators, nor of ours with another body than ours."""
    found = Counter((f.domain, f.name, f.overload) for f in proto.functions)
    for function in proto.functions:
        name = f"{function.domain}.{function.name}".strip(".")
        if found[function.domain, function.name, function.overload] > 1:
            raise SourceError(f"{where}: defines the function {name} twice")
        if function.domain in ("", "ai.onnx"):
            raise SourceError(f"{where}: its function {name} stands in the place of ONNX's own operators")
        if function.domain == OURS and not is_ours(function):
            raise SourceError(f"{where}: its function {name} stands in the place of one of bridge's own")


def _check_references(proto: onnx.ModelProto, where: str) -> None:
    """Attributes that stand for those of a call are in functions, which have such attributes."""
    outside = [(proto.graph, set[str]())]
    for function in proto.functions:
        outside.append((function, {*function.attribute, *(a.name for a in function.attribute_proto)}))
    for root, known in outside:
        for node in nodes_in(root):
            for attribute in node.attribute:
                if attribute.ref_attr_name and attribute.ref_attr_name not in known:
                    raise SourceError(
                        f"{where}: attribute {readable(attribute.name)} of {node.op_type} refers to "
                        f"{readable(attribute.ref_attr_name)}, which there is not"
                    )


def _check_calls(proto: onnx.ModelProto, where: str) -> None:
    """Functions do not call themselves, and written out they are not too many nodes."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    sizes: dict[tuple[str, str, str], int] = {}
    entered: set[tuple[str, str, str]] = set()

    def size(calls: Counter[tuple[str, str, str]]) -> int:
        return sum(count * (sizes.get(key, 0) + 1) for key, count in calls.items())

    calls = {key: _calls(function) for key, function in functions.items()}
    waiting = list(functions)
    while waiting:  # a function after those that it calls
        key = waiting[-1]
        inner = [other for other in calls[key] if other in functions and other not in sizes]
        if key in sizes or not inner:
            waiting.pop()
            sizes.setdefault(key, size(calls[key]))
        elif key in entered:
            raise SourceError(f"{where}: function {key[0]}.{key[1]} calls itself, so that it never ends")
        else:
            entered.add(key)
            waiting.extend(inner)
    total, there = (
        max(size(_calls(proto.graph)), *sizes.values(), 0),
        sum(counts.total() for counts in (_calls(proto.graph), *calls.values())),
    )
    if total > there + MAX_NODES and total > there * MAX_GROWTH:
        raise SourceError(
            f"{where}: {total:,} nodes with its functions written out, of {there:,} in the file; write them out before"
        )


def _calls(graph: Graph) -> Counter[tuple[str, str, str]]:
    """How often each operator or function is called in `graph` and the graphs inside it."""
    return Counter((node.domain, node.op_type, node.overload) for node in nodes_in(graph))
