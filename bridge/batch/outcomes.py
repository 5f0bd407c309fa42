"""How the models of a zoo ended, and all of them together as JSON (docs/batch.md) and as a page."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.errors import SourceError, readable, short_message
from bridge.files.atomic import require_file, write_atomically

FORMAT = 1  # of the JSON
JSON, PAGE = "zoo.json", "index.html"
# What a model ends in, the good ones first, by the error that it ended with ("" for none)
STATUSES = {
    "proved": "",
    "converted": "",  # not compared, or what was compared shows little
    "mismatch": "MismatchError",
    "refused": "UnsupportedError",
    "unreadable": "SourceError",
    "not exported": "ExportError",
    "package missing": "MissingPackageError",
    "not written": "OutputError",
    "died": "ProcessError",
    "bug": "InternalError",
    "waiting": "",  # it has not run
}
GOOD = ("proved", "converted")


@dataclass(frozen=True)
class Outcome:
    """How one model ended.

    Attributes:
        status: one of `STATUSES`.
        verdict: of its report, or what its error says, in one line.
        error: the largest relative error of all comparisons; None where nothing was compared.
        limit: the least that an error in the source's own precision may have to pass.
        parameters: how many numbers the variables of the Keras model are.
        custom_layers: layers of it that plain Keras lacks.
        seconds: from the start of its process to the end.
        refusals: of a refused one, each node's `op`, `path`, `reason` and `line`.
        files: what was written, by what it is: `model`, `weights`, `json`, `page`, `mismatch`; beside the JSON.
        read: the digest of every file that it was made from, by its path, from the folder of the toml.
        key: the digest of its source, its options and the version of bridge.
    """

    name: str
    source: str
    status: str = "waiting"
    verdict: str = ""
    error: float | None = None
    limit: float | None = None
    parameters: int | None = None
    custom_layers: tuple[str, ...] = ()
    seconds: float = 0.0
    refusals: tuple[dict[str, str], ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    read: dict[str, str] = field(default_factory=dict)
    key: str = ""

    @property
    def good(self) -> bool:
        return self.status in GOOD

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Outcome:
        """Out of what JSON gave. Raises `KeyError`, `TypeError` or `ValueError` if it is none."""
        found = cls(
            **{**told, "custom_layers": tuple(told["custom_layers"]), "refusals": tuple(told["refusals"])}
        )
        if found.status not in STATUSES:
            raise ValueError(f"{found.status!r} is no status")
        return found


@dataclass(frozen=True)
class Wait:
    """Models that wait for one operator: the reasons, and the models of each."""

    op: str
    reasons: dict[str, tuple[str, ...]]

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for names in self.reasons.values() for name in names))


@dataclass(frozen=True)
class Zoo:
    """The models of a zoo in the order of its toml, and where what was written lies.

    Attributes:
        toml: the path of the zoo.
        folder: of what is written.
        outcomes: how each model ended.
        skipped: the names of those that were finished before and have not changed since.
    """

    toml: str
    folder: Path
    outcomes: tuple[Outcome, ...]
    skipped: frozenset[str] = frozenset()

    @property
    def counts(self) -> dict[str, int]:
        """How many models ended in each of the statuses that there are."""
        found = Counter(outcome.status for outcome in self.outcomes)
        return {status: found[status] for status in STATUSES if found[status]}

    @property
    def refused(self) -> tuple[Wait, ...]:
        """What refused models wait for, the operator that the most of them do first."""
        by_op: dict[str, dict[str, dict[str, None]]] = {}
        for outcome in self.outcomes:
            for refusal in outcome.refusals:
                by_op.setdefault(refusal["op"], {}).setdefault(refusal["reason"], {})[outcome.name] = None
        waits = [Wait(op, {why: tuple(names) for why, names in whys.items()}) for op, whys in by_op.items()]
        return tuple(sorted(waits, key=lambda wait: -len(wait.models)))

    def to_json(self) -> str:
        """All of it, as `zoo.json` has it."""
        import bridge

        refused = [
            {"op": w.op, "models": w.models, "reasons": [{"reason": why, "models": m} for why, m in w.reasons.items()]}
            for w in self.refused
        ]  # fmt: skip
        told = {
            "format": FORMAT,
            "bridge": bridge.__version__,
            "zoo": self.toml,
            "counts": self.counts,
            "refused": refused,
            "models": [dataclasses.asdict(outcome) for outcome in self.outcomes],
        }
        return json.dumps(told, indent=2, ensure_ascii=False)

    def to_html(self) -> str:
        """All of it as one page that needs no other file; it links to the reports beside it."""
        from bridge.report.html import render_zoo

        return render_zoo(self, self.toml)

    def save(self, page: bool = True) -> Path:
        """Write `zoo.json`, and `index.html` unless no `page` is wanted, into the folder. Raises `OutputError`."""
        texts = {JSON: self.to_json(), **({PAGE: self.to_html()} if page else {})}
        for name, text in texts.items():
            write_atomically(self.folder / name, _writing(text))
        return self.folder / JSON


def _writing(text: str) -> Any:
    return lambda part: part.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_outcomes(folder: Path) -> Iterator[Outcome]:
    """The outcomes in a `zoo.json`; none where there is no such file, or one of another format."""
    from bridge.files.archives import BROKEN, read_json, require_printable  # numpy comes with it

    try:
        require_file(folder / JSON)
        told = read_json((folder / JSON).read_text(encoding="utf-8"))
        require_printable(told)
        yield from [Outcome.of(outcome) for outcome in told["models"] if told["format"] == FORMAT]
    except (*BROKEN, SourceError):
        return


def lost(name: str, source: str, error: BaseException) -> Outcome:
    """Of a model whose process gave none."""
    return Outcome(name, source, "died", readable(short_message(error)))
