"""Everything that `bridge` raises on purpose.

    BridgeError
    ├── SourceError         the file or object given is not a model that can be read
    ├── ExportError         torch could not export the module, or fixed an axis that was to be dynamic
    ├── UnsupportedError    nodes that cannot be built, all of them at once (`.refusals`)
    ├── MismatchError       the converted model does not agree with its source (`.report`)
    ├── WeightsError        weights that do not fit, or cannot go back
    ├── OutputError         a file that cannot be written
    ├── MissingPackageError an optional package is needed and not installed
    ├── ProcessError        the process of a model of a zoo died, or was ended by a bound on it (docs/batch.md)
    └── InternalError       a fault of bridge itself, with the stage and the node at which it arose

The text of each is one line that says what, where and the way out; `UnsupportedError` has one line per refusal.
"""

from __future__ import annotations

import importlib
import re
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WIDTH = 240  # characters of another program's words in an error
MAX_LINE = 2000  # characters of a line of an error
# Of terminals, and of the direction of writing
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def short_message(error: BaseException) -> str:
    """What `error` says, on one short line: without terminal colours, and of Keras's text only what went wrong."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    text = re.sub(r"^Exception encountered.*", "", text).partition("\nArguments received by")[0]
    return textwrap.shorten(text, WIDTH, placeholder=" …") or type(error).__name__


def readable(text: str) -> str:
    """`text` on one line, with the characters that no terminal should be given (controls, marks that turn the
    direction of writing) as their escapes."""
    return "".join(c if c.isprintable() else " " if c.isspace() else repr(c)[1:-1] for c in text)


def _shortened(line: str) -> str:
    """The line, and of one that names thousands of things the first and the last."""
    half = MAX_LINE // 2
    return line if len(line) <= MAX_LINE else f"{line[:half]} … {line[-half:]}"


class BridgeError(Exception):
    """Base of all errors of this package; no line of the text is endless or holds what a terminal would act on.

    Examples:
        >>> try:
        ...     bridge.convert("model.onnx")
        ... except bridge.BridgeError as error:
        ...     print(error)
    """

    def __init__(self, *lines: str):
        super().__init__("\n".join(_shortened(readable(line)) for line in lines))


class SourceError(BridgeError):
    """The source is not a readable, valid model."""


class ExportError(BridgeError):
    """torch refused to export the module as asked."""


@dataclass(frozen=True)
class Refusal:
    """A node that cannot be built: where it stands, and why.

    Attributes:
        op: the operator's name, with its domain where that is not ONNX's own.
        path: of the torch module that made the node ("encoder.lstm"), or the node's name.
        reason: why, and the way out.
        line: of the user's code, "model.py:42"; empty where nobody knows it.
    """

    op: str
    path: str
    reason: str
    line: str = ""

    def __str__(self) -> str:
        where = f" at {self.path}" if self.path else ""
        line = f" ({self.line})" if self.line else ""
        return f"{self.op}{where}{line}: {self.reason}"


class UnsupportedError(BridgeError):
    """Nodes of the graph that no builder can say in Keras.

    Attributes:
        refusals: one `Refusal` for each (or its text, where a report says so), found before anything is built.

    Examples:
        >>> try:
        ...     bridge.convert("model.onnx")
        ... except bridge.UnsupportedError as error:
        ...     operators = {refusal.op for refusal in error.refusals}
    """

    def __init__(self, refusals: Iterable[Refusal | str]):
        self.refusals: tuple[Refusal | str, ...] = tuple(refusals)
        super().__init__(*map(str, self.refusals))


class MismatchError(BridgeError):
    """The proof failed.

    Attributes:
        report: the `Report`, which says on which leg, at which sizes and from which node on.
        reproducer: that node by itself, where it can be run so: `save(folder)` writes it; else None.

    Examples:
        >>> try:
        ...     bridge.convert("model.onnx")
        ... except bridge.MismatchError as error:
        ...     error.report.save("why.html")
        ...     if error.reproducer is not None:
        ...         error.reproducer.save("reproducer")
    """

    def __init__(self, message: str, report: Any, reproducer: Any = None):
        self.report, self.reproducer = report, reproducer
        super().__init__(message)


class WeightsError(BridgeError):
    """Weights that are missing, unexpected, of the wrong shape, or cannot be taken back."""


class OutputError(BridgeError):
    """A file that cannot be written where it was asked for; nothing is left there."""


class InternalError(BridgeError):
    """A fault of `bridge` itself, not of the source or of the caller."""


class ProcessError(BridgeError):
    """The process of a model ended before it was done: it died, or took more time or memory than it may; or whoever
    runs such processes is not to be reached."""


class MissingPackageError(BridgeError):
    """A package outside the core is needed; the text says what installs it."""


def imported(name: str, needed_by: str, extra: str) -> Any:
    """The module `name`, which `needed_by` needs. Raises `MissingPackageError` with what to install, by our `extra`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"{needed_by} needs {error.name or name}, which is not installed: {installing(extra)}"
        ) from error


def installing(extra: str) -> str:
    """The command that installs what our extra `extra` names, or else a package of that name."""
    from importlib import metadata

    marker = f"; extra == '{extra}'"
    try:
        wanted = metadata.requires("onnx-keras-bridge") or []
    except metadata.PackageNotFoundError:
        wanted = []
    packages = [line.removesuffix(marker) for line in wanted if line.endswith(marker)]
    return (
        " ".join(["pip install", *(f"'{package}'" for package in packages)])
        if packages
        else f"pip install {extra}"
    )


class NotRun(Exception):
    """A model does not run on what it was given, for the reason that it says. It goes no further than the package."""


@contextmanager
def calling() -> Iterator[None]:
    """A call of a model: whatever that raises becomes `NotRun`, but for what `bridge` raises on purpose."""
    try:
        yield
    except BridgeError:
        raise
    except Exception as error:
        raise NotRun(short_message(error)) from error
