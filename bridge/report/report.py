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
from bridge.report.records import Row, Untrained, Value, Variable
from bridge.verification.bisect.origin import Origin
from bridge.verification.checks import AFTER, Check, Gradient, all_pass, amplified, limit_of

FORMAT = 5  # of the JSON
TOLD = ("verdict", "advice", "verified", "proved")  # of what follows from the fields, what the JSON says too
READABLE = (2, 3, 4, FORMAT)  # earlier ones have fewer fields


@dataclass(frozen=True)
class Report:
    """What one conversion did, and what comparing its result with its source found. Frozen; prints as text.

    Attributes:
        inputs: of every input, which axes are free, within which range, and which are fixed.
        outputs: of every output, how it is called in what the model gives, and its axes.
        notes: conditions that hold beyond the checks, such as a simplification that is exact only for valid input.
        rows: what every node of the graph became; `error` is the largest of its output, by its magnitude.
        checks: the comparisons, each with its error, its limit (both relative) and the sizes it was made at.
        variables: the Keras variables, and the torch parameters that each is made from.
        untrained: the parameters that torch trains and the Keras model does not; the verdict names them.
        gradients: the relative error of the gradient of each torch parameter, if training was compared.
        first_mismatch: the leg and the first node that departs, if a check failed.
        origin: the same as data: the first value that departs beyond its floor, its inputs' errors, and why.
        refusals: the nodes that cannot be built, a line each.
        seconds: the time of each stage.
        nodes: how many nodes the graph had behind each stage; behind "build", the operations of the Keras model.
        layers: every layer by its name, as the call that one would write.
        modules: the class of every torch module by its path, as far as nodes came of it.
        command: the command line that made it; empty where a program did.

    Examples:
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
    custom_reasons: dict[str, str] = dataclasses.field(default_factory=dict)  # by layer, what Keras has not
    first_mismatch: str = ""  # leg and first node that departs, when a check failed
    origin: Origin | None = None  # the same as data
    refusals: tuple[str, ...] = ()
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    nodes: dict[str, int] = dataclasses.field(default_factory=dict)
    layers: dict[str, str] = dataclasses.field(default_factory=dict)
    modules: dict[str, str] = dataclasses.field(default_factory=dict)
    command: str = ""
    seed: int = 0  # of the inputs that were drawn
    unvaried: tuple[str, ...] = ()  # outputs that were one number at all inputs, and it: "features (0.0)"
    dtype: str = "float32"  # the coarsest precision of floating point that the source computes in

    @property
    def compared(self) -> bool:
        """Whether the model was compared with its source."""
        return any(not check.leg.startswith(AFTER) for check in self.checks)

    @property
    def verified(self) -> bool:
        """Whether the model was compared with its source, and every comparison is within its limit."""
        return self.compared and all_pass(self.checks)

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
        from bridge.report.verdict import verdict

        return verdict(self)

    @property
    def advice(self) -> str:
        """What to do next, in a sentence."""
        from bridge.report.verdict import advice

        return advice(self)

    @property
    def failed(self) -> bool:
        """Whether a node was refused or a comparison failed."""
        return bool(self.refusals) or any(not check.passed for check in self.checks)

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

    def to_text(self, *, width: int | None = None, color: bool = False, full: bool = False) -> str:
        """The report as lines for a terminal.

        Args:
            width: the most characters of a line; 110 if it is not given.
            color: whether to add ANSI colours.
            full: whether to show long lists whole; otherwise they end in a count.

        Returns:
            The text, its lines parted by newlines.

        Examples:
            >>> print(report.to_text(color=True))
        """
        from bridge.report import text

        return text.render(self, width=width or text.WIDTH, color=color, full=full)

    def to_html(self) -> str:
        """The report as one HTML page that needs no other file.

        Returns:
            The page, to be written in UTF-8.

        Examples:
            >>> Path("report.html").write_text(report.to_html(), encoding="utf-8")
        """
        from bridge.report.html import render

        return render(self)

    def to_markdown(self) -> str:
        """The report as a short summary in Markdown, as GitHub shows it beside a job or in a pull request.

        Returns:
            The Markdown.

        Examples:
            >>> Path(os.environ["GITHUB_STEP_SUMMARY"]).write_text(report.to_markdown(), encoding="utf-8")
        """
        from bridge.report.markdown import render

        return render(self)

    def to_json(self) -> str:
        """The report as JSON, which `from_json` reads: the number of the format, the verdict and what follows from it,
        and the fields by name; docs/report.md.

        Returns:
            The JSON, indented.

        Examples:
            >>> json.loads(report.to_json())["checks"]
        """
        told = {name: getattr(self, name) for name in TOLD}
        return json.dumps(
            {"format": FORMAT, **told, **dataclasses.asdict(self)}, indent=2, ensure_ascii=False
        )

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote.

        Args:
            text: the JSON.

        Returns:
            The report, equal to the one that was written.

        Raises:
            SourceError: it is no report, or one of another format.

        Examples:
            >>> Report.from_json(Path("report.json").read_text(encoding="utf-8")).verified
        """
        try:
            data = json.loads(text)
            found = data.pop("format", None)
            if found in READABLE:
                return _read(cls, {name: value for name, value in data.items() if name not in TOLD})
        except BROKEN as error:
            raise SourceError(f"not a report: {short_message(error)}") from error
        which = "no format" if found is None else f"format {found}"
        known = f"{', '.join(map(str, READABLE[:-1]))} and {FORMAT}"
        raise SourceError(f"a report of {which}; this version of bridge reads {known}: convert again")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report in the format that the path's suffix names.

        Args:
            path: ends in `.html`, `.json`, `.md` or `.txt`.

        Returns:
            The path.

        Raises:
            OutputError: the suffix is another one, or the file cannot be written; nothing is left half-written.

        Examples:
            >>> report.save("report.html")
        """
        path = Path(path)
        if path.suffix not in SUFFIXES:
            raise OutputError(f"{path}: a report is written as {', '.join(SUFFIXES)}")
        forms = {
            ".html": self.to_html,
            ".json": self.to_json,
            ".md": self.to_markdown,
            ".txt": lambda: self.to_text(full=True),
        }
        text = forms[path.suffix]()
        write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
        return path

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from bridge.report.html import in_a_frame

        return in_a_frame(self)

    def __str__(self) -> str:
        return self.to_text()


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
