"""What a conversion has to say for itself, as frozen dataclasses that go to JSON and back. Knows nobody."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from bridge.verification.checks import LEGS, Check, Gradient, all_pass, amplified, limit_of

FREE = re.compile(r" free|: \d+ (to|or) ")  # in what is said of the axes of an input


@dataclass(frozen=True)
class Row:
    """What one ONNX node became. `error` is the relative error of its output against onnxruntime, if compared."""

    path: str  # of the torch module, or the node's name
    op: str
    layer: str  # the Keras class, or "keras.ops"
    name: str  # of the Keras layer
    parameters: int
    error: float | None = None


@dataclass(frozen=True)
class Variable:
    """A Keras variable and the torch parameters it is made from."""

    path: str
    shape: tuple[int, ...]
    trainable: bool
    recipe: str
    one_way: bool = False


@dataclass(frozen=True)
class Report:
    """Frozen account of one conversion.

    `axes` says of every input which axes are free and which are fixed; `notes` are conditions that hold beyond the
    checks (a simplification that is exact only for valid input, for instance). `seconds` is the time of each stage.
    """

    source: str
    backend: str = ""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    axes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    checks: tuple[Check, ...] = ()
    variables: tuple[Variable, ...] = ()
    gradients: tuple[Gradient, ...] = ()
    source_parameters: int | None = None  # trainable ones in torch; None for a file that does not say
    trainable: int = 0
    non_trainable: int = 0
    transposes: int = 0  # between nodes of the built model
    custom_layers: tuple[str, ...] = ()  # layers that plain Keras cannot load
    first_mismatch: str = ""  # leg and first node that departs, when a check failed
    refusals: tuple[str, ...] = ()
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    seed: int = 0  # of the inputs that were drawn
    unvaried: tuple[str, ...] = ()  # outputs that were one number at all inputs, and it: "features (0.0)"
    dtype: str = "float32"  # the coarsest precision of floating point that the source computes in

    @property
    def verified(self) -> bool:
        return all_pass(self.checks)

    @property
    def proved(self) -> bool:
        """Whether the comparisons show that the two are equal: they pass, and there was something to see."""
        return self.verified and not self.unvaried

    @property
    def limit(self) -> float:
        """The largest error that values in the source's own precision may have to pass."""
        own = (check.limit for check in self.checks if check.dtype == self.dtype)
        return min(own, default=limit_of(self.dtype))

    @property
    def amplifies(self) -> bool:
        """Whether the network amplifies rounding, so that its values were judged by the source's own."""
        return amplified(self.checks, self.dtype)

    @property
    def summed(self) -> int:
        """How many trainable numbers torch has twice where Keras has their sum (a torch RNN's two biases)."""
        return sum(math.prod(v.shape) for v in self.variables if v.trainable and " + " in v.recipe)

    @property
    def verdict(self) -> str:
        """One line: proved, and how closely; or what failed; or why nothing is proved."""
        if self.refusals:
            return f"cannot be converted: {len(self.refusals)} node{'s' * (len(self.refusals) > 1)} refused"
        if not self.checks:
            return "planned, not built" if not self.backend else "converted, not compared"
        if not self.verified:
            return f"NOT equal: {self.first_mismatch or ', '.join(leg for leg in self.worst)}"
        sizes = len({check.sizes for check in self.checks if check.leg in LEGS})
        worst = max(check.error for check in self.checks)
        where = f"{sizes} choices of sizes" if sizes > 1 else "the exported sizes"
        odd = len({check.values for check in self.checks if check.values})
        if odd:
            where += f" and {odd} kinds of odd values"
        if sizes == 1 and any(FREE.search(axes) for axes in self.axes):
            where += " only: the source ran at no other"
        if any(check.leg not in LEGS for check in self.checks):
            where += ", in training too"
        if self.unvaried:
            return (
                f"equal, which shows little: {', '.join(self.unvaried)} never varied, at {where}; give inputs at which "
                f"it does"
            )
        if not self.amplifies and self.dtype == "float32":
            return f"proved equal: largest relative error {worst:.1e} at {where}"
        double = max((c.error for c in self.checks if c.leg in LEGS and c.dtype == "float64"), default=None)
        if double is None:
            rounding = "its source's own rounding" if self.amplifies else f"the rounding of {self.dtype}"
            return f"equal within {rounding}: largest relative error {worst:.1e} at {where}"
        text = f"proved equal in float64: largest relative error {double:.1e} at {where}"
        return text if self.dtype == "float64" else f"{text} ({worst:.1e} in {self.dtype})"

    @property
    def worst(self) -> dict[str, float]:
        """The largest error of each leg."""
        legs: dict[str, float] = {}
        for check in self.checks:
            legs[check.leg] = max(legs.get(check.leg, 0.0), check.error)
        return legs

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Raises `TypeError`, `ValueError` or `KeyError` for what is no report."""
        return _read(cls, json.loads(text))

    def __str__(self) -> str:
        from bridge.report.text import render

        return render(self)


def _read(kind: Any, data: Any) -> Any:
    """What JSON gave, as a `kind`."""
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        kinds = get_type_hints(kind)
        return kind(**{name: _read(kinds[name], value) for name, value in data.items()})
    if origin is types.UnionType:
        return None if data is None else _read(inner[0], data)
    if origin is dict:
        return {name: _read(inner[1], value) for name, value in data.items()}
    if origin is tuple and isinstance(data, list):
        return tuple(_read(inner[0], item) for item in data)
    if not isinstance(data, (int, float) if kind is float else origin or kind):
        raise TypeError(f"{data!r} is no {kind}")
    return data
