"""The process of one model: `python -m bridge.batch.child`, in the folder of the zoo. It is asked once, with a job, and
answers with an outcome."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bridge.batch.jobs import ENDINGS, Job
from bridge.batch.outcomes import STATUSES, Outcome
from bridge.batch.reads import Reads
from bridge.errors import (
    BridgeError,
    MismatchError,
    ProcessError,
    Refusal,
    UnsupportedError,
    readable,
    short_message,
)
from bridge.frontend.named import read_source
from bridge.processes import questions

if TYPE_CHECKING:
    from bridge.converted import Conversion
    from bridge.report.report import Report

OUT_OF_MEMORY = re.compile("memory|alloc", re.IGNORECASE)


def main() -> None:
    for question, answers in questions():
        threading.Thread(target=_end_with, args=(question["parent"],), daemon=True).start()
        outcome = convert(Job(**question["job"]))
        print(json.dumps(dataclasses.asdict(outcome)), file=answers, flush=True)
    # Whoever asked ends this process, whatever threads the frameworks and the model have left


def _end_with(parent: int) -> None:
    """End this process, and what it has started, with the one that asked."""
    while os.getppid() == parent:
        time.sleep(0.5)
    if hasattr(os, "killpg"):
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGTERM)  # Windows


def convert(job: Job) -> Outcome:
    """Convert, write the files, and say how it ended."""
    _bound_memory(job.memory)
    reads, report, error = Reads(), None, None
    reads.tell(job.source, job.options.get("inputs", ""))
    try:
        result = _converted(job)
        report = result.report
        result.save(job.path("model"))
        _write(job, report)
    except Exception as raised:
        error = _meant(raised, job)
        report = _report_of(job, raised) or report
    module = sys.modules.get(job.source.rpartition(":")[0])
    reads.tell(getattr(module, "__file__", None) or "")
    told = dict(_told(report, error, job))
    return Outcome(
        job.name,
        job.source,
        **told,
        read=reads.digests(job.folder, {str(job.path(what)) for what in ENDINGS}),
    )


def _converted(job: Job) -> Conversion:
    options = job.options
    source, args, shapes = read_source(job.source, options.get("trust", False))
    import bridge

    asked = {name: options[name] for name in ("inputs", "seed", "float64", "training") if name in options}
    verify = bridge.Verify(
        sizes=options.get("sizes", {}), backends=tuple(options.get("backends", ())), **asked
    )
    return bridge.convert(
        source,
        args,
        dynamic_shapes=_shapes(options["dynamic_shapes"]) if "dynamic_shapes" in options else shapes,
        channels_last=options.get("channels_last", False),
        dequantize=options.get("dequantize", False),
        verify=verify if options.get("verify", True) else False,
    )


def _shapes(given: Any) -> Any:
    """What TOML holds as torch takes it: axes are numbers, and of several inputs there is a tuple."""
    if isinstance(given, dict):
        return {int(key) if key.isdecimal() else key: _shapes(value) for key, value in given.items()}
    return tuple(map(_shapes, given)) if isinstance(given, list) else given


def _report_of(job: Job, error: BaseException) -> Report | None:
    """The report of one that was not converted, written, if there is any."""
    from bridge.report.report import Report

    if isinstance(error, MismatchError):
        report = error.report
        if error.reproducer is not None and report.origin is not None:
            where = error.reproducer.save(job.path("mismatch"))
            report = dataclasses.replace(
                report, origin=dataclasses.replace(report.origin, reproducer=where.name)
            )
    elif isinstance(error, UnsupportedError):
        report = Report(job.source, refusals=tuple(map(str, error.refusals)))
    else:
        return None
    _write(job, report)
    return report


def _write(job: Job, report: Report) -> None:
    for form in ("json", "page"):
        report.save(job.path(form))


def _meant(error: Exception, job: Job) -> Exception:
    """The error; another one where the bound on memory is what it comes of."""
    chain = [error, error.__cause__, error.__context__]
    short = any(isinstance(e, MemoryError) or OUT_OF_MEMORY.search(str(e)) for e in chain if e is not None)
    if job.memory is not None and short and not isinstance(error, MismatchError | UnsupportedError):
        return ProcessError(f"more memory than it may take ({job.options['memory']}): {short_message(error)}")
    return error


def _told(report: Report | None, error: Exception | None, job: Job) -> Iterator[tuple[str, Any]]:
    """What an outcome says of both, by its fields."""
    yield "files", {what: job.path(what).name for what in ENDINGS if job.path(what).exists()}
    if error is not None:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        ends = ((status, STATUSES[status]) for status in STATUSES if STATUSES[status])
        other, bug = "bug", f"this is a bug: {type(error).__name__}: "
        if isinstance(error, BridgeError):
            other, bug = "unreadable", ""
        yield "status", next((status for status, kind in ends if kind in kinds), other)
        yield "verdict", readable(bug + short_message(error))
    if isinstance(error, UnsupportedError):
        yield "refusals", tuple(map(_refusal, error.refusals))
    if report is not None and report.backend:
        from bridge.report.tree import worst

        if error is None:
            yield "status", "proved" if report.proved else "converted"
        if error is None or isinstance(error, MismatchError):
            yield "verdict", report.verdict.partition("\n")[0]
        yield "error", worst(report.worst.values())
        yield "limit", report.limit
        yield "parameters", report.trainable + report.non_trainable
        yield "custom_layers", report.custom_layers


def _refusal(refusal: Refusal | str) -> dict[str, str]:
    return (
        {"op": "", "path": "", "reason": refusal, "line": ""} if isinstance(refusal, str) else vars(refusal)
    )


def _bound_memory(bound: int | None) -> None:
    """Have the system refuse this process more memory for data; where it cannot, nothing bounds it."""
    with contextlib.suppress(ImportError):  # Windows
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        if bound is not None and (most == resource.RLIM_INFINITY or bound < most):
            resource.setrlimit(resource.RLIMIT_DATA, (bound, most))


if __name__ == "__main__":
    main()
