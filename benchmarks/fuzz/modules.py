"""Random torch modules made of layers, converted by `bridge.convert` with random free axes.

A module is a list of layers, so that it is shrunk by leaving some out. Each layer is drawn for the value that the ones
before it give, and taken if torch runs it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

import bridge
from benchmarks.fuzz import parts
from benchmarks.fuzz.forms import Form
from benchmarks.fuzz.layers import Draw
from benchmarks.fuzz.outcomes import outcome
from benchmarks.fuzz.sequences import ON, TO, WIDTH, WORDS
from benchmarks.fuzz.workers import INVALID, Outcome
from bridge.frontend.torch.module import Torch
from bridge.frontend.torch.trees import in_forward_order

SCALES = (1.0, 1.0, 30.0, 1e-3)  # of all weights
RARE = ("dropout", "branch", "masked", "parametrised", "stopped")  # groups that are drawn half as often
LARGEST = 20_000  # elements of a value
TIME = 7  # steps of a sequence
SHAPES = {  # of the example of each kind, and of further inputs by name
    "sequence": (2, TIME, WIDTH), "image": (2, 4, 9, 7), "volume": (2, 3, 5, 7, 6), "line": (2, WIDTH),
    "tokens": (2, TIME), "state": (2, 2, WIDTH), "memory": (2, 5, WIDTH),
}  # fmt: skip
AXES = {  # names of the axes that may be free
    "sequence": {0: "batch", 1: "time"},
    "image": {0: "batch", 2: "height", 3: "width"},
    "volume": {0: "batch", 2: "depth", 3: "height", 4: "width"},
    "line": {0: "batch"},
    "tokens": {0: "batch", 1: "time"},
    "lengths": {0: "batch"},
    "mask": {0: "batch", 1: "time"},
    "state": {1: "batch"},
    "memory": {0: "batch", 1: "steps"},
}


def example(kind: str, more: Mapping[str, int] = {}) -> torch.Tensor:
    """An input of the module, or a further one by name; some axes are `more` long by so much."""
    if kind == "lengths":
        return torch.tensor([TIME - 3] + [TIME] * (1 + more.get("batch", 0)))
    if kind == "mask":
        return torch.arange(TIME + more.get("time", 0)) < example("lengths", more)[:, None]
    sizes = [size + more.get(AXES[kind].get(axis, ""), 0) for axis, size in enumerate(SHAPES[kind])]
    return torch.randint(0, WORDS, sizes) if kind == "tokens" else torch.randn(sizes)


def layer(code: str) -> nn.Module:
    """What `code` makes, in evaluation mode."""
    names = {"nn": nn, "torch": torch, "functional": functional, **vars(parts)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval(code, names).eval()


class Made(NamedTuple):
    """A module, as it is, and what `bridge.convert` takes of it."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shapes: Any

    def source(self) -> Torch:
        return Torch(self.module, self.args, in_forward_order(self.module, self.kwargs))


@dataclass(frozen=True)
class Module:
    """One drawn module, and what of its input is free."""

    seed: int
    kind: str  # of its input
    layers: tuple[tuple[str, str, bool], ...]  # group, code, whether it is added to its input
    scale: float
    free: tuple[int, ...] | None  # axes; None leaves it to the defaults
    dtype: str = "float32"
    training: bool = False
    form: Form = Form()

    @property
    def groups(self) -> tuple[str, ...]:
        marks = (f"weights × {self.scale:g}", self.kind, self.dtype, *(["training"] if self.training else []))
        return (*{group for group, *_ in self.layers}, *marks, *self.form.groups)

    def make(self, seed: int = 0, longer: int = 0) -> Made:
        """With other inputs of the same module by `seed`, its free axes `longer`."""
        torch.manual_seed(self.seed)
        layers = [layer(code) for _, code, _ in self.layers]
        names = list(dict.fromkeys(name for made in layers for name in getattr(made, "uses", ())))
        module = self.form.chain(layers, [added for *_, added in self.layers], names).eval()
        randomised(module, self.scale)
        dtype = getattr(torch, self.dtype)
        torch.manual_seed(self.seed + seed)
        more = dict.fromkeys(self._free, longer)
        more["batch"] = more.get("batch", 0) - self.form.one
        drawn = [example(kind, more) for kind in (self.kind, *names)]
        x, *further = (x.to(dtype) if x.is_floating_point() else x for x in drawn)
        given = self.form.arguments(x, dict(zip(names, further, strict=True)))
        return Made(module.to(dtype), *given, self._shapes(names))

    @property
    def _free(self) -> list[str]:
        return ["batch"] if self.free is None else [AXES[self.kind][axis] for axis in self.free]

    def _shapes(self, names: list[str]) -> Any:
        if self.free is None:
            return None
        free = {*self._free, "steps"}
        x, *further = (
            {axis: name for axis, name in AXES[kind].items() if name in free} for kind in (self.kind, *names)
        )
        return self.form.shapes(x, dict(zip(names, further, strict=True)))

    def run(self) -> Outcome:
        made = self.make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                results = made.module(*made.args, **made.kwargs)
            except (RuntimeError, ValueError) as error:  # as where torch has no kernel in this precision
                return Outcome(INVALID, str(error))
            if not all(torch.isfinite(x).any() for x in tree_leaves(results) if isinstance(x, torch.Tensor)):
                return Outcome(INVALID, "torch gives no number")
            return outcome(lambda: self._converted(made), made.source, self.form.read)

    def _converted(self, made: Made) -> bridge.Conversion:
        options = bridge.Verify(training=self.training)
        return bridge.convert(
            self.form.wrapped(made.module), made.args, made.kwargs, dynamic_shapes=made.shapes, verify=options
        )

    def shrunk(self, fails: Callable[[Module], bool]) -> Module:
        """Layers left out one by one for as long as it fails."""
        for place in reversed(range(len(self.layers))):
            smaller = replace(self, layers=self.layers[:place] + self.layers[place + 1 :])
            if smaller.layers and fails(smaller):
                return smaller.shrunk(fails)
        return self

    def shown(self) -> str:
        imports = "from benchmarks.fuzz.forms import Form\nfrom benchmarks.fuzz.modules import Module"
        return f"{imports}\nprint({self!r}.run())"


@torch.no_grad()
def randomised(module: nn.Module, scale: float) -> None:
    """Weights by `scale`, and no statistics, gains or biases that are as they were made."""
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn_like(parameter) * 0.3)
        parameter.mul_(scale)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        if name.endswith("running_var"):
            buffer.uniform_(0.3, 2.0)


def _grown(chosen: Draw, kind: str, x: torch.Tensor) -> tuple[str, str, str, bool, torch.Tensor] | None:
    """One more layer behind `x`: the kind that it gives, its group, its code, whether it is added; None if torch does
    not run it."""
    moved = {f"to {other}": makers for other, makers in TO[kind].items()}
    on = ON[kind] if chosen.random() < 0.85 or not moved else moved
    on = on or moved
    group = chosen.choices(list(on), [1 if name in RARE else 2 for name in on])[0]
    last = kind in ("sequence", "line")
    sizes = x.shape[1:-1] if last else x.shape[2:]
    code = chosen.choice(on[group])(chosen, x.shape[-1] if last else x.shape[min(1, x.ndim - 1)], sizes)
    try:
        made = layer(code)
        further = map(example, getattr(made, "uses", ()))
        with torch.no_grad():
            y = made(x, *further)
    except Exception:
        return None
    y = y[0] if isinstance(y, tuple) else y
    given = group.removeprefix("to ") if group.startswith("to ") else kind
    if not 0 < y.numel() < LARGEST or y.ndim != len(SHAPES[given]) or not y.is_floating_point():
        return None
    return given, group, code, y.shape == x.shape and given == kind and chosen.random() < 0.25, y


def case(seed: int) -> Module:
    """The module of `seed`."""
    chosen = Draw(seed)
    torch.manual_seed(seed)
    first = kind = chosen.choices(list(ON), [8, 7, 2, 2, 2])[0]
    x, layers, wanted = example(kind), list[tuple[str, str, bool]](), chosen.randint(1, 5)
    while len(layers) < wanted:
        grown = _grown(chosen, kind, x)
        if grown is not None:
            kind, group, code, added, x = grown
            layers.append((group, code, added))
    axes = tuple(AXES[first])
    free = chosen.choice([None, (0,), axes[1:] or None, axes])
    dtype = chosen.choices(["float32", "float64", "float16", "bfloat16"], [40, 2, 3, 1])[0]
    return Module(
        seed,
        first,
        tuple(layers),
        chosen.choice(SCALES),
        free,
        dtype,
        dtype == "float32" and chosen.random() < 0.08,
        Form.drawn(chosen),
    )
