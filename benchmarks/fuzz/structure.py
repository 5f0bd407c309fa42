"""ONNX models whose structure is what no exporter writes: headers, names, functions, graphs within graphs, growth."""

from __future__ import annotations

import random
from typing import Any

import onnx
from onnx import TensorProto, helper

from benchmarks.fuzz.broken import NUMBERS, TEXTS
from benchmarks.fuzz.edits import graphs, nodes, number

GROWTH: dict[str, tuple[list[Any], dict[str, Any]]] = {  # inputs after the first, attributes
    "Expand": ([[1 << 20, 1 << 20]], {}),
    "Tile": ([[1 << 40]], {}),
    "Pad": ([[0, 1 << 40]], {}),
    "Resize": ([None, [1e9]], {}),
    "Upsample": ([[1e9]], {}),
    "OneHot": ([1 << 40, [0.0, 1.0]], {}),
    "TopK": ([[1 << 40]], {}),
    "SplitToSequence": ([1], {}),
    "Range": ([1 << 50, 1], {}),
    "ConstantOfShape": ([], {}),
    "EyeLike": ([], {}),
    "RandomNormal": ([], {"shape": [1 << 20, 1 << 20]}),
    "HannWindow": ([], {}),
    "DFT": ([1 << 40], {}),
    "Reshape": ([[1] * 70], {}),
    "Unsqueeze": ([list(range(1, 70))], {}),
    "Col2Im": ([[1 << 30], [1]], {}),
    "AffineGrid": ([[1, 1, 1 << 20, 1 << 20]], {}),
}


def header(proto: onnx.ModelProto, draw: random.Random) -> None:
    graph = proto.graph
    values = (*graph.input, *graph.output)
    match draw.randrange(9):
        case 0 if proto.opset_import:
            proto.opset_import[0].version = draw.choice(
                (0, -1, 1, 5, 9, 12, 13, 17, 23, 25, 26, 999, 1 << 62)
            )
        case 1:
            proto.ir_version = draw.choice((*NUMBERS, 3, 4, 8, 14))
        case 2 if values:
            graph.input.add().CopyFrom(draw.choice(values))
        case 3 if values:
            graph.output.add().CopyFrom(draw.choice(values))
        case 4:
            del (graph.output if draw.random() < 0.5 else graph.input)[:]
        case 5 if values:
            draw.choice(values).type.tensor_type.elem_type = draw.randrange(30)
        case 6:
            del proto.opset_import[draw.randrange(len(proto.opset_import) + 1) :]
        case 7:
            proto.opset_import.add(
                domain=draw.choice(("", "ai.onnx", "bridge", *TEXTS)), version=number(draw)
            )
        case 8 if values:
            kind = draw.choice(values).type
            part = kind.tensor_type.elem_type
            kind.Clear()
            match draw.randrange(4):
                case 0:
                    kind.sequence_type.elem_type.tensor_type.elem_type = part
                case 1:
                    kind.optional_type.elem_type.tensor_type.elem_type = part
                case 2:
                    kind.sparse_tensor_type.elem_type = part
                case 3:
                    kind.map_type.key_type = 7


def names(proto: onnx.ModelProto, draw: random.Random) -> None:
    """Things of one name, or of none, or of one that a terminal would act on."""
    found: list[Any] = [
        thing
        for graph in graphs(proto)
        for thing in (graph, *graph.input, *graph.output, *graph.initializer, *graph.node, *graph.value_info)
    ]
    found += [*proto.functions, *(a for node in nodes(proto) for a in node.attribute)]
    chosen = draw.choice((draw.choice(TEXTS), draw.choice(found).name))
    for thing in draw.sample(found, min(len(found), draw.choice((1, 1, 2, 5)))):
        old, thing.name = thing.name, chosen
        if draw.random() < 0.5:
            _renamed(proto, old, chosen)


def _renamed(proto: onnx.ModelProto, old: str, new: str) -> None:
    for node in nodes(proto):
        for places in (node.input, node.output):
            places[:] = [new if name == old else name for name in places]


def functions(proto: onnx.ModelProto, draw: random.Random) -> None:
    """A function that calls itself, another that calls it twice, forty of which call the next twice; one in the place
    of an operator, of ours too."""
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("f", 1)]
    chosen = draw.choice(nodes(proto))
    if draw.random() < 0.5:
        domain = draw.choice(("", "bridge", "ai.onnx", chosen.domain))
        name = draw.choice((chosen.op_type, "Linear", "LSTM", "Relu", "Constant"))
        inside = helper.make_node(draw.choice(("Neg", name)), ["x"], ["y"])
        proto.functions.append(
            helper.make_function(domain, name, ["x", "z"][: draw.choice((1, 2))], ["y"], [inside], imports)
        )
        if draw.random() < 0.5:
            chosen.op_type, chosen.domain = name, domain
        return
    count = draw.choice((1, 2, 40))
    for i in range(count):
        follower = f"F{(i + 1) % count if draw.random() < 0.5 else i + 1}"
        calls = [helper.make_node(follower, [a], [b], domain="f") for a, b in (("x", "z"), ("z", "y"))]
        proto.functions.append(helper.make_function("f", f"F{i}", ["x"], ["y"], calls, imports))
    chosen.op_type, chosen.domain = "F0", "f"


def doubled(proto: onnx.ModelProto, draw: random.Random) -> None:
    """A value joined to itself, or multiplied by itself, again and again."""
    found = [tensor.name for tensor in proto.graph.initializer]
    found += [name for node in nodes(proto) for name in node.output]
    name, operator = draw.choice(found or ["x"]), draw.choice(("Concat", "Mul", "Add", "Einsum", "Sum"))
    chain = []
    for i in range(draw.choice((5, 40, 200))):
        extra: dict[str, Any] = {"axis": 0} if operator == "Concat" else {}
        if operator == "Einsum":
            extra = {"equation": "a...,b...->ab..."}
        chain.append(helper.make_node(operator, [name, name], [f"double{i}"], **extra))
        name = f"double{i}"
    proto.graph.node.extend(chain)
    _read(proto, name, draw)


def grown(proto: onnx.ModelProto, draw: random.Random) -> None:
    """A few numbers that unfold to many."""
    name = draw.choice(list(GROWTH))
    others, attributes = GROWTH[name]
    large = draw.choice((1 << 20, 1 << 28, 1 << 33, 1 << 50))
    first: Any = [large] * draw.choice((1, 2, 3)) if name == "ConstantOfShape" else [1.0]
    first = large if name == "HannWindow" else 0 if name == "Range" else first
    found = [name for node in nodes(proto) for name in node.output if name] or ["x"]
    inputs = []
    for i, value in enumerate([first, *others]):
        if value is None:
            inputs.append("")
        elif i == 0 and draw.random() < 0.4:
            inputs.append(draw.choice(found))
        else:
            kind = TensorProto.FLOAT if "." in str(value) or "e" in str(value) else TensorProto.INT64
            flat = value if isinstance(value, list) else [value]
            shape = [len(value)] if isinstance(value, list) else []
            proto.graph.initializer.append(helper.make_tensor(f"grow{i}", kind, shape, flat))
            inputs.append(f"grow{i}")
    proto.graph.node.append(helper.make_node(name, inputs, ["grown"], **attributes))
    _read(proto, "grown", draw)


def _read(proto: onnx.ModelProto, name: str, draw: random.Random) -> None:
    """As an output, added to what is there, or not at all."""
    output = draw.choice(proto.graph.output or [proto.graph.output.add()])
    match draw.randrange(3):
        case 0:
            proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        case 1:
            old = output.name
            for node in proto.graph.node:
                node.output[:] = ["before" if made == old else made for made in node.output]
            tail = [
                helper.make_node("ReduceSum", [name], ["all"], keepdims=0),
                helper.make_node("Add", ["before", "all"], [old]),
            ]
            proto.graph.node.extend(tail)


def nested(proto: onnx.ModelProto, draw: random.Random) -> None:
    """The last node inside a branch, a loop or a scan, once or many times over."""
    if not proto.graph.node or not proto.graph.node[-1].output:
        return
    for level in range(draw.choice((1, 1, 2, 8, 17))):
        inner = onnx.NodeProto()
        inner.CopyFrom(proto.graph.node[-1])
        out = [onnx.ValueInfoProto(name=name) for name in inner.output]
        body = helper.make_graph([inner], f"g{level}", [], out)
        operator, given = draw.choice(
            (("If", ["yes"]), ("Loop", ["many", "yes"]), ("Scan", list(inner.input)))
        )
        bodies = {"then_branch": body, "else_branch": body} if operator == "If" else {"body": body}
        if operator == "Scan":
            bodies["num_scan_inputs"] = number(draw)
        proto.graph.node[-1].CopyFrom(helper.make_node(operator, given, list(inner.output), **bodies))
    proto.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [draw.random() < 0.5]))
    proto.graph.initializer.append(helper.make_tensor("many", TensorProto.INT64, [], [number(draw)]))


def extras(proto: onnx.ModelProto, draw: random.Random) -> None:
    """What most files have not: sparse tensors, notes, unknown fields, training."""
    match draw.randrange(6):
        case 0:
            values = helper.make_tensor("", TensorProto.FLOAT, [1], [1.0])
            places = helper.make_tensor("", TensorProto.INT64, [1], [number(draw)])
            proto.graph.sparse_initializer.add().CopyFrom(
                helper.make_sparse_tensor(values, places, [1 << 40])
            )
        case 1:
            for key in ("k", "k", "pkg.torch.onnx.name_scopes", draw.choice(TEXTS)):
                text = draw.choice((*TEXTS, "[" * 9000, "['a', 'b']"))
                draw.choice(nodes(proto)).metadata_props.add(key=key, value=text)
                proto.metadata_props.add(key=key, value=text)
        case 2:
            proto.graph.doc_string = draw.choice(TEXTS) * 100
            proto.producer_name = draw.choice(TEXTS)
        case 3:
            proto.MergeFromString(b"\xfa\x7f\x03abc\xf0\x3f\x01")  # fields that nobody knows
        case 4:
            proto.training_info.add().algorithm.CopyFrom(proto.graph)
        case 5:
            note = proto.graph.quantization_annotation.add(tensor_name=draw.choice(TEXTS))
            note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=draw.choice(TEXTS))


STRUCTURE = (header, header, names, names, functions, doubled, grown, nested, extras)
