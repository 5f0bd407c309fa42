"""Why torch cannot export a module, in one sentence: the function, its place in the user's source, and the way out."""

from __future__ import annotations

import contextlib
import itertools
import linecache
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from bridge.errors import Refusal, short_message
from bridge.frontend.torch.patches import replaced

TORCH = str(Path(torch.__file__).parent)
OURS = str(Path(__file__).parents[2])
EXPORT = str(Path(__file__).with_name("export.py"))  # beyond which stands who called us
ROOMS = ("special", "linalg", "fft")  # of torch, which its operators have before their names
ON_NUMBERS = (
    "GuardOnDataDependentSymNode",
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "PendingUnbackedSymbolNotFound",
)
NUMBERS = (
    "a size or a branch depends on the numbers in a tensor, which the graph cannot hold: in the place of an if write "
    "torch.where(condition, a, b) or torch.cond, and give a size as a number, or take all and mask it"
)
OUTSIDE = "compute it outside of the module, or write it with functions that have one"
WAYS_OUT = {  # where there is a better one, by torch's operator
    "masked_select": "the size of its result depends on the numbers; keep all of them and use torch.where or the mask",
    "diagonal_scatter": "use torch.where with a mask of the diagonal",
    "linalg_inv_ex": "invert matrices of parameters before, and keep the inverse as a buffer",
    "copy_to": "write the result as a new tensor instead of into a view",
}


def why_not_exported(error: BaseException) -> str:
    """What went wrong, by what the innermost cause says."""
    causes = list(_causes(error))
    last = causes[-1]
    node = next((found for cause in reversed(causes) if (found := _node(cause)) is not None), None)
    if node is not None:
        return str(refused(node, last))
    if type(last).__name__ in ON_NUMBERS:
        return f"{NUMBERS}{_raised_in(last)}"
    return f"{type(last).__name__}: {_own_words(last)}"


def refused(node: torch.fx.Node, error: BaseException) -> Refusal:
    """That `node` is not translated, with its place, and why."""
    scopes = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    path, place = scopes[-1] if scopes else "", _place(node.meta.get("stack_trace") or "")
    return Refusal(f"torch.{called(node)}", path, _missing(node, error), place)


def _own_words(error: BaseException) -> str:
    """What `error` says, without torch's advice on how to hear more; by the end of it, if it suggests something."""
    text = re.sub(r"\s+(For more information|The error above occurred).*?(\n|$)", "\n", str(error))
    told = text.find("Suggested fixes:")
    return short_message(Exception(text[max(told, 0) :]))


Place = tuple[str, int]  # an input, as the graph calls it, and an axis of it


@contextlib.contextmanager
def where_fixed(module: torch.nn.Module) -> Iterator[dict[Place, str]]:
    """Where in `module` torch fixes sizes that were to be free, while it traces."""
    places: dict[Place, str] = {}
    update = ShapeEnv._update_var_to_range

    def updated(sizes: ShapeEnv, symbol: Any, *args: Any, **options: Any) -> None:
        update(sizes, symbol, *args, **options)
        allowed = sizes.var_to_range[symbol]
        if allowed.lower == allowed.upper:
            for source in sizes.var_to_sources.get(symbol, ()):
                words = re.findall(r"\w+", source.name.replace("size", ""))
                if len(words) > 2 and words[-1].isdigit():  # not of a number among the inputs
                    places.setdefault(("_".join(words[1:-1]), int(words[-1])), _running(module))

    with replaced([(ShapeEnv, "_update_var_to_range", updated, "says where a size was fixed")]):
        yield places


def _running(module: torch.nn.Module) -> str:
    """The submodule whose forward runs, and the line in the user's source that does."""
    modules = module.named_modules() if isinstance(module, torch.nn.Module) else ()
    paths = {id(one): path for path, one in modules}
    frames = [frame for frame, _ in traceback.walk_stack(None)]
    callers = [frame.f_locals.get("self") for frame in frames if frame.f_code.co_name == "forward"]
    path = next((paths[id(caller)] for caller in callers if id(caller) in paths), None)
    if path is None:
        return ""
    inside = itertools.takewhile(lambda frame: frame.f_code.co_filename != EXPORT, frames)
    line = next((f for f in inside if not f.f_code.co_filename.startswith((TORCH, OURS, "<"))), None)
    place = "" if line is None else _line(line.f_code.co_filename, line.f_lineno)
    return (f" at {path}" if path else "") + place


def _causes(error: BaseException) -> Iterator[BaseException]:
    while True:
        yield error
        if error.__cause__ is None:
            return
        error = error.__cause__


def _node(error: BaseException) -> torch.fx.Node | None:
    """The node that torch was translating."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = frame.f_locals.get("node")
        found = node if isinstance(node, torch.fx.Node) else found
    return found


def _operator(node: torch.fx.Node) -> str:
    aten: Any = node.meta.get("original_aten") or node.target
    return str(aten).split(".")[-2 if "." in str(aten) else -1].lstrip("_")


def called(node: torch.fx.Node) -> str:
    """As the user writes it, behind `torch.`"""
    name = _operator(node)
    room, _, rest = name.partition("_")
    return f"{room}.{rest}" if room in ROOMS else name


def _missing(node: torch.fx.Node, error: BaseException) -> str:
    """Why `node` was not translated, and the way out."""
    if isinstance(error, NotImplementedError):
        told = f"no ONNX operator and no formula for it; {WAYS_OUT.get(_operator(node), OUTSIDE)}"
        return short_message(error) if str(error) else told
    return f"{type(error).__name__}: {short_message(error)}"


def _place(trace: str) -> str:
    """File and line of the innermost frame, and the code there."""
    frames = re.findall(r'File "([^"<]+)", line (\d+), in .*\n\s*(.*)', trace)
    if not frames:
        return ""
    path, line, code = frames[-1]
    return f"{Path(path).name}:{line}, `{code.strip()}`"


def _raised_in(error: BaseException) -> str:
    """The place in the user's source that an error of torch went through last."""
    theirs = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith((TORCH, OURS, "<"))
    ]
    if not theirs:
        return ""
    return _line(*theirs[-1])


def _line(path: str, line: int) -> str:
    return f" ({Path(path).name}:{line}, `{linecache.getline(path, line).strip()}`)"
