"""What a conversion has to say for itself, as frozen dataclasses that go to JSON and back, and print themselves."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from bridge.errors import OutputError, SourceError, short_message
from bridge.files.archives import BROKEN
from bridge.files.atomic import write_atomically
from bridge.report import SUFFIXES
from bridge.verification.checks import LEGS, Check, Gradient, all_pass, amplified, limit_of

FORMAT = 2  # of the JSON
NAMES = 5  # of parameters that do not train, in the verdict


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
    is_sum: bool = False  # of parameters, such as torch's two biases


@dataclass(frozen=True)
class Untrained:
    """A parameter that torch trains and the Keras model does not."""

    name: str  # torch's
    size: int  # how many numbers it is
    reason: str


@dataclass(frozen=True)
class Axis:
    """An axis of an input or an output: fixed at `size`, or free."""

    size: int | None
    name: str = ""  # of a free axis, or the formula that its size is of several
    # By name, of the free axes that may not have any size
    ranges: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        if self.size is not None:
            return f"{self.size} fixed"
        if self.name in self.ranges:
            return f"{self.name}: {self.ranges[self.name]}"
        return ", ".join([f"{self.name} free", *(f"{name}: {sizes}" for name, sizes in self.ranges.items())])


@dataclass(frozen=True)
class Value:
    """An input or an output: what it is called, and its axes."""

    name: str
    axes: tuple[Axis, ...]

    def __str__(self) -> str:
        return f"{self.name}: ({', '.join(map(str, self.axes))})"


@dataclass(frozen=True)
class Report:
    """What one conversion did, and what comparing its result with its source found. Frozen; prints as text.

    Attributes:
        inputs: of every input, which axes are free, within which range, and which are fixed.
        outputs: of every output, how it is called in what the model gives, and its axes.
        notes: conditions that hold beyond the checks, such as a simplification that is exact only for valid input.
        rows: what every node of the graph became; `error` is that of its output, relative to the largest magnitude.
        checks: the comparisons, each with its error, its limit (both relative) and the sizes it was made at.
        variables: the Keras variables, and the torch parameters that each is made from.
        untrained: the parameters that torch trains and the Keras model does not; the verdict names them.
        gradients: the relative error of the gradient of each torch parameter, if training was compared.
        first_mismatch: the leg and the first node that departs, if a check failed.
        refusals: the nodes that cannot be built, a line each.
        seconds: the time of each stage.

    Example:
        >>> report = bridge.convert(module, args).report
        >>> print(report.verdict)
        >>> report.save("report.html")
    """

    source: str
    backend: str = ""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    inputs: tuple[Value, ...] = ()
    outputs: tuple[Value, ...] = ()
    notes: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    checks: tuple[Check, ...] = ()
    variables: tuple[Variable, ...] = ()
    gradients: tuple[Gradient, ...] = ()
    untrained: tuple[Untrained, ...] = ()
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
        return sum(math.prod(v.shape) for v in self.variables if v.trainable and v.is_sum)

    @property
    def verdict(self) -> str:
        """Proved, and how closely; or what failed; or why nothing is proved. A second line where parameters that torch
        trains do not train."""
        return "\n".join(line for line in (self._equality, self._lost_training) if line)

    @property
    def _lost_training(self) -> str:
        reasons: dict[str, list[str]] = {}
        for parameter in self.untrained:
            reasons.setdefault(parameter.reason, []).append(parameter.name)
        told = "; ".join(f"{', '.join(_few(names))} ({reason})" for reason, names in reasons.items())
        count = sum(parameter.size for parameter in self.untrained)
        return f"{count:,} of {self.source_parameters:,} parameters do not train: {told}" if told else ""

    @property
    def _equality(self) -> str:
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
            where += f" and {odd} kind{'s' * (odd > 1)} of odd values"
        if sizes == 1 and any(axis.size is None for value in self.inputs for axis in value.axes):
            where += " only: the source ran at no other"
        if self.backends:
            where += f", on {', '.join(self.backends)}"
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
    def backends(self) -> tuple[str, ...]:
        """Those of Keras on which the saved model was compared too, each in a process of its own."""
        return tuple(dict.fromkeys(check.backend for check in self.checks if check.backend))

    @property
    def worst(self) -> dict[str, float]:
        """The largest error of each leg."""
        legs: dict[str, float] = {}
        for check in self.checks:
            legs[check.name] = max(legs.get(check.name, 0.0), check.error)
        return legs

    def to_text(self, *, width: int | None = None, color: bool = False) -> str:
        """The report as lines for a terminal.

        Args:
            width: the most characters of a line; 110 if it is not given.
            color: whether to add ANSI colours.

        Returns:
            The text, its lines parted by newlines.

        Example:
            >>> print(report.to_text(color=True))
        """
        from bridge.report import text

        return text.render(self, width=width or text.WIDTH, color=color)

    def to_html(self) -> str:
        """The report as one HTML page that needs no other file.

        Returns:
            The page, to be written in UTF-8.

        Example:
            >>> Path("report.html").write_text(report.to_html(), encoding="utf-8")
        """
        from bridge.report.html import render

        return render(self)

    def to_json(self) -> str:
        """The report as JSON, which `from_json` reads: its fields by name, and the number of the format.

        Returns:
            The JSON, indented.

        Example:
            >>> json.loads(report.to_json())["checks"]
        """
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote.

        Args:
            text: the JSON.

        Returns:
            The report, equal to the one that was written.

        Raises:
            SourceError: it is no report, or one of another format.

        Example:
            >>> Report.from_json(Path("report.json").read_text(encoding="utf-8")).verified
        """
        try:
            data = json.loads(text)
            found = data.pop("format", None)
            if found == FORMAT:
                return _read(cls, data)
        except BROKEN as error:
            raise SourceError(f"not a report: {short_message(error)}") from error
        which = "no format" if found is None else f"format {found}"
        raise SourceError(
            f"a report of {which}, of which this version of bridge reads {FORMAT}: convert again"
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report in the format that the path's suffix names.

        Args:
            path: ends in `.html`, `.json` or `.txt`.

        Returns:
            The path.

        Raises:
            OutputError: the suffix is another one, or the file cannot be written; nothing is left half-written.

        Example:
            >>> report.save("report.html")
        """
        path = Path(path)
        if path.suffix not in SUFFIXES:
            raise OutputError(f"{path}: a report is written as {', '.join(SUFFIXES)}")
        text = {".html": self.to_html, ".json": self.to_json, ".txt": self.to_text}[path.suffix]()
        write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
        return path

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from bridge.report.html import in_a_frame

        return in_a_frame(self)

    def __str__(self) -> str:
        return self.to_text()


def _few(names: list[str]) -> list[str]:
    return names if len(names) <= NAMES else [*names[:NAMES], f"{len(names) - NAMES} more"]


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
