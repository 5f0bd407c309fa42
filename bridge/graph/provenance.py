"""Where a node comes from: the torch module and the line of the user's code that the exporter wrote beside it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import onnx_ir as ir

from bridge.errors import Refusal
from bridge.graph.rewriting import is_onnx

SCOPES = "pkg.torch.onnx.name_scopes"  # of a node's metadata: the modules around it, and the call it is of
CLASSES = "pkg.torch.onnx.class_hierarchy"  # likewise, of what class each is
TORCH = "site-packages/torch/"  # within the path of a file of torch itself
OURS = Path(__file__).parents[1].as_posix() + "/"  # what stands in for some of that while torch traces
NO_BUILDER = "no builder"  # in a node's meta: why it has none, where that is known before the plan
UNKNOWN = "no builder for this operator (`bridge ops` lists what there is)"


def torch_path(node: ir.Node) -> str:
    """The path of the torch module that made `node` ("encoder.lstm"), or the node's own name."""
    scopes = node.metadata_props.get(SCOPES)
    if scopes is None:
        return node.name or ""
    names = [name for name in ast.literal_eval(scopes)[:-1] if name and not name.startswith("_")]
    return names[-1] if names else ""


def torch_classes(node: ir.Node) -> dict[str, str]:
    """The classes of the torch modules around `node` by their paths: {"encoder": "torch.nn.modules.rnn.LSTM"}."""
    found = [ast.literal_eval(node.metadata_props.get(key, "[]"))[:-1] for key in (SCOPES, CLASSES)]
    return dict(zip(*found, strict=False))


def _is_between(path: str) -> bool:
    return TORCH in path or path.startswith(OURS)


def source_line(node: ir.Node) -> str:
    """File and line of the innermost frame in the user's code, from torch's stack trace; of torch's own code, or ours,
    where there is no other, and not of code that it generates."""
    trace = node.metadata_props.get("pkg.torch.onnx.stack_trace", "")
    frames = re.findall(r'File "([^"<][^"]*)", line (\d+)', trace)
    frames = [frame for frame in frames if not _is_between(frame[0].replace("\\", "/"))] or frames
    return f"{frames[-1][0].rsplit('/', 1)[-1]}:{frames[-1][1]}" if frames else ""


def refusal(node: ir.Node, reason: str = "") -> Refusal:
    """That `node` cannot be built, and why, which is else what is known of its operator."""
    reason = reason or node.meta.get(NO_BUILDER, UNKNOWN)
    name = node.op_type if is_onnx(node) else f"{node.domain}.{node.op_type}"
    line = source_line(node)
    path = torch_path(node) or ("" if line else f"output {node.outputs[0].name}")
    return Refusal(name, path, reason, line)
