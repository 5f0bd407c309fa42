"""Every function of torch that is a formula, at the edges of its range, against torch itself.

    python -m benchmarks.functions [PATTERN] [--onnx]

`functions.txt` holds expressions over the inputs of `inputs()`; what departs and is let be stands in
`functions_let_be.py`, with the reason. Some are exported together as one module; each result is
compared with torch's in onnxruntime on the exported graph (all that `--onnx` does) and in the Keras model, at the
inputs as they are and at parts of their free axis. Prints which functions depart, and which are refused with what
reason; PATTERN is a regular expression that an expression has to hold.
"""

from __future__ import annotations

import argparse
import functools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)

import bridge
from bridge.frontend.torch.examples import Example
from bridge.frontend.torch.export import export_module
from bridge.frontend.torch.module import Torch
from bridge.verification.runners import OnnxRuntime, keras_call

LIMIT = 1e-5  # of each number, or of the largest of its row where numbers are added up
DIGITS = 5e-7  # a difference that is smaller is one of rounding, be it of a small number
TOGETHER = 16  # expressions in one module
PARTS = (slice(None), slice(1, None), slice(0, 1))  # of the free axis

FUNCTIONS = Path(__file__).with_suffix(".txt").read_text()
NUMBERS = (
    "nan inf -inf 0 -0.0 1e-30 -1e-30 1e-8 -1e-8 1e-6 -1e-6 1e-4 -3e-3 0.1 -0.1 0.25 -0.25 0.5 -0.5 0.7 -0.7 1 -1 "
    "1.5 -1.5 2 -2 2.5 -2.5 3 -3 3.5 -4.5 5 -6 7.25 10 -10 16 -17 20 -21 33 -40 85 88 -88 90 -90 104 -104 1e4 -1e4 "
    "16777217 1e8 -1e8 1e30 -1e30 3e38 -3e38"
)
PAIRED = "nan inf -inf 0 -0.0 1e-30 -1e-6 -0.3 0.5 1 -1 1.5 -2 2.5 3 -7.3 10 88 -90 100 -104 1e4 -1e4 1e8 1e30 -1e30"
WHOLE = "0 1 -1 2 -2 3 -3 4 5 -5 7 -7 8 -8 9 10 31 -33 100 -100 127 -128 255 256 1000 -1001 65535 100000"
ROWS = """1 2 3 -1 0.5 0 | nan 1 2 0 -1 3 | inf 1 2 3 0 -1 | -inf 1 2 3 0 -1 | -inf -inf -inf -inf -inf -inf |
inf -inf 0 1 2 3 | 1 1 1 1 1 1 | 0 -0.0 0 -0.0 0 -0.0 | -0.0 0 -0.0 0 -0.0 0 |
1e4 1e4 -1e4 1e4 0 88 | 100 88 -100 90 -104 1 |
1e-6 -1e-6 1e-8 0 1e-30 -1e-8 | 1e30 1e29 -1e30 1 2 3 | 3 nan 1 nan 2 nan | nan nan nan nan nan nan | 2 5 5 1 5 1"""


def _floats(text: str) -> torch.Tensor:
    return torch.tensor([float(number) for number in text.split()])


def _pairs(numbers: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.meshgrid(numbers, others, indexing="ij")
    return first.contiguous(), second.contiguous()


@functools.cache
def inputs() -> dict[str, torch.Tensor]:
    """What expressions may name: inputs in lower case, parameters in upper."""
    random = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    whole = _floats(WHOLE).long()
    a, b = _pairs(_floats(PAIRED), _floats(PAIRED))
    i, j = _pairs(whole, whole[whole.abs() < 50][1:])
    k, m = _pairs(torch.tensor([True, False, True]), torch.tensor([False, True, True, False]))
    edge = draw(2, 3, 4, 5)
    edge[0, 0, 1, 2], edge[1, 1, 2, 3], edge[0, 2] = float("nan"), float("inf"), -1e30
    return {
        "x": _floats(NUMBERS).reshape(4, -1), "a": a, "b": b, "n": whole.reshape(4, 7), "i": i, "j": j,
        "i32": i.int(), "j32": j.int(), "u8": torch.arange(256, dtype=torch.uint8).reshape(8, 32),
        "i8": torch.arange(-128, 128).to(torch.int8).reshape(8, 32), "k": k, "m": m,
        "r": torch.stack([_floats(row) for row in ROWS.split("|")]), "g": draw(2, 5), "s": draw(2, 5, 8),
        "t": torch.tensor([[1.0, 3, 3, 1, 2], [2, 2, 2, 2, 2], [0, -0.0, 0, -0.0, 0]]), "three": draw(2, 3),
        "im": draw(2, 4, 6, 8), "edge": edge, "grid": 1.2 * draw(2, 3, 5, 2), "theta": draw(2, 2, 3),
        "index": torch.tensor([[0, 6, 2, 2], [2, 5, 1, 0], [2, 2, 2, 2]]), "sound": draw(2, 60),
        "p": _floats("0 1 0.5 1e-8 0.999999 0.3 1e-30 0.7 0.2 0.1").reshape(2, 5),
        "SLOPE": torch.tensor([0.2]), "SLOPES": torch.linspace(-1, 1, 15), "ROW": _floats("-2 -1 -0.5 0 0.3 1 1 2"),
        "INTS": torch.tensor([-5, 0, 3, 3, 100]), "INDEX": torch.tensor([0, 3, 1]), "SQUARE": draw(5, 5),
        "BILINEAR": draw(3, 5, 5), "TABLE": draw(7, 3), "OFFSETS": torch.tensor([0, 3, 3, 5]),
        "WINDOW": torch.hann_window(16),
    }  # fmt: skip


def assign(x: torch.Tensor, key: Any, value: Any) -> torch.Tensor:
    """`x[key] = value`, in a copy."""
    y = x.clone()
    y[key] = value
    return y


class Together(nn.Module):
    """Some expressions over the inputs that they name."""

    def __init__(self, expressions: Sequence[str]):
        super().__init__()
        words = set(re.findall(r"[A-Za-z_]\w*", " ".join(expressions)))
        for name, tensor in inputs().items():
            if name.isupper() and name in words:
                self.register_buffer(name, tensor)
        self.names = [name for name in inputs() if name.islower() and name in words]
        named = {"torch": torch, "F": nn.functional, "assign": assign}
        text = "\n".join([
            f"def forward(self, {', '.join(self.names)}):",
            *(f"    {name} = self.{name}" for name in dict(self.named_buffers())),
            f"    return ({''.join(f'{expression}, ' for expression in expressions)})",
        ])  # fmt: skip
        exec(text, named)  # the expressions above, as a function that torch can trace
        self.run = named["forward"]

    def forward(self, *args: torch.Tensor) -> Any:
        return self.run(self, *args)


@dataclass(frozen=True)
class Answer:
    """`verdict` is equal, refused, digits (some of the last ones of small numbers) or differs."""

    expression: str
    verdict: str
    reason: str = ""


def sweep(expressions: Sequence[str], keras: bool = True) -> Iterator[Answer]:
    """An answer for each expression; where several together fail, by halves."""
    try:
        yield from _answers(expressions, keras)
    except Exception as error:
        if len(expressions) > 1:
            half = len(expressions) // 2
            yield from sweep(expressions[:half], keras)
            yield from sweep(expressions[half:], keras)
        else:
            known = isinstance(error, bridge.BridgeError)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            yield Answer(expressions[0], "refused" if known else "differs", reason)


def _answers(expressions: Sequence[str], keras: bool) -> list[Answer]:
    module = Together(expressions).eval()
    args = tuple(inputs()[name] for name in module.names)
    free = torch.export.Dim.AUTO
    shapes = (tuple({0: free} for _ in args),)
    *_, example = Example.with_axes(Torch(module, args), shapes)
    if not keras:
        model = export_module(module, example).model
        return _compared(expressions, module, args, {"onnx": OnnxRuntime(model)}, model.graph.inputs)
    made = bridge.convert(module, args, dynamic_shapes=shapes, verify=False)
    model = export_module(module, example).model
    runs = {"onnx": OnnxRuntime(model), "keras": keras_call(made.model)}
    return _compared(expressions, module, args, runs, model.graph.inputs)


def _compared(expressions, module, args, runs, graph_inputs) -> list[Answer]:
    found: dict[str, dict[str, tuple[str, str]]] = {expression: {} for expression in expressions}
    fixed = [isinstance(value.shape[0], int) for value in graph_inputs]
    for part in PARTS:
        feeds = [arg if stays else arg[part] for arg, stays in zip(args, fixed, strict=True)]
        try:
            wanted = [y.detach().numpy() for y in module(*feeds)]
        except (RuntimeError, IndexError):
            if part == slice(None):
                raise
            continue  # torch itself does not run on this part
        arrays = [feed.numpy() for feed in feeds]
        for stage, run in runs.items():
            for expression, want, got in zip(expressions, wanted, run(arrays), strict=True):
                parted = difference(got, want, not re.search(r"\b[xab]\b", expression))
                if parted and found[expression].get(stage, ("", ""))[0] != "differs":
                    found[expression][stage] = parted
    return [_answer(expression, stages) for expression, stages in found.items()]


def _answer(expression: str, stages: dict[str, tuple[str, str]]) -> Answer:
    verdicts = [verdict for verdict, _ in stages.values()]
    reason = "; ".join(f"{stage}: {text}" for stage, (_, text) in stages.items())
    return Answer(
        expression, "differs" if "differs" in verdicts else verdicts[0] if verdicts else "equal", reason
    )


def difference(got: np.ndarray, want: np.ndarray, adds: bool) -> tuple[str, str] | None:
    """How two arrays part: verdict and reason. Sums may be off by a share of the largest number of their row."""
    if (got.shape, got.dtype) != (want.shape, want.dtype):
        return "differs", f"{got.dtype}{got.shape} for {want.dtype}{want.shape}"
    off, small = np.atleast_1d(got != want), np.zeros((), bool)
    if want.dtype.kind == "f":
        with np.errstate(all="ignore"):
            finite = np.where(np.isfinite(want), np.abs(want), 0.0)
            most = finite.max(-1, keepdims=True, initial=0.0) if adds and want.ndim else finite
            apart = np.abs(got - want)
            close = np.isfinite(want) & (apart <= LIMIT * most + 1e-37)
            off = np.atleast_1d((got != want) & ~(np.isnan(got) & np.isnan(want)) & ~close)
            small = np.atleast_1d(np.isfinite(want) & (apart < DIGITS))
    if not off.any():
        return None
    worst = off & ~small if (off & ~small).any() else off
    place = tuple(int(index[0]) for index in np.nonzero(worst))
    numbers = f"{np.atleast_1d(got)[place]} for {np.atleast_1d(want)[place]} at {place}"
    return "differs" if (off & ~small).any() else "digits", f"{int(worst.sum())} of {want.size}: {numbers}"


def expressions(pattern: str = "") -> list[str]:
    lines = (line for line in FUNCTIONS.splitlines() if not line.startswith("#"))
    found = [part.strip() for line in lines for part in line.split(";")]
    return [expression for expression in found if re.search(pattern, expression)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pattern", nargs="?", default="")
    parser.add_argument("--onnx", action="store_true", help="the exported graph alone, in onnxruntime")
    options = parser.parse_args()
    chosen = expressions(options.pattern)
    count: Counter[str] = Counter()
    for start in range(0, len(chosen), TOGETHER):
        for answer in sweep(chosen[start:][:TOGETHER], keras=not options.onnx):
            count[answer.verdict] += 1
            if answer.verdict != "equal":
                print(answer.verdict, answer.expression, answer.reason[:300], sep=" | ", flush=True)
    print(
        ", ".join(f"{number} {verdict}" for verdict, number in count.items()), f"of {len(chosen)} functions"
    )


if __name__ == "__main__":
    main()
