"""A zoo from its toml to its page: what is finished stays, the rest goes to an executor; what ends is written down."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, as_completed
from pathlib import Path

from bridge.batch.executors import engine
from bridge.batch.jobs import ENDINGS, Job, read_jobs
from bridge.batch.outcomes import JSON, Outcome, Zoo, lost, read_outcomes
from bridge.batch.reads import digest
from bridge.batch.supervising import run, stopping
from bridge.errors import OutputError

Told = Callable[[Zoo, Outcome], object]
BOUNDS = ("timeout", "memory")  # options that change nothing of what is made


def convert_zoo(
    toml: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    executor: Executor | None = None,
    again: bool = False,
    progress: Told | None = None,
) -> Zoo:
    """Convert the models of a zoo, each in a process of its own, and write their files and a page of all.

    Args:
        toml: the path of the zoo; docs/batch.md says what stands in it.
        output: the folder for what is written, a new one or that of an earlier run, of which stays what is finished.
        executor: what runs the conversions, by its futures: of `concurrent.futures`, dask's `Client.get_executor()`, or
            any other that runs calls of importable functions. Its workers have to see the files under the same paths.
            Threads suffice, and are the default.
        again: convert what is finished too.
        progress: called with the zoo and the outcome whenever a model ends.

    Returns:
        How each model ended.

    Raises:
        SourceError: the toml is no zoo.
        OutputError: the folder cannot be written, or holds something else.

    Examples:
        >>> with concurrent.futures.ThreadPoolExecutor(4) as executor:
        ...     print(convert_zoo("zoo.toml", "out", executor=executor).counts)
    """
    if executor is None:
        with engine() as executor:
            return convert_zoo(toml, output, executor=executor, again=again, progress=progress)
    jobs = {job.name: job for job in read_jobs(Path(toml), Path(output))}
    folder = _folder(Path(output))
    digests = functools.cache(_digest)
    held = {outcome.name: outcome for outcome in read_outcomes(folder)}
    outcomes = {name: Outcome(name, job.source, key=_key(job)) for name, job in jobs.items()}
    finished = {} if again else {
        name: held[name] for name, job in jobs.items() if name in held and _is_finished(job, held[name], digests)
    }  # fmt: skip
    outcomes |= finished

    def zoo() -> Zoo:
        return Zoo(os.fspath(toml), folder, tuple(outcomes.values()), frozenset(finished))

    zoo().save(page=False)
    try:
        waiting = [job for name, job in jobs.items() if name not in finished]
        with _cancelling() as futures:
            for job in waiting:
                _clear(job)
                futures[executor.submit(run, job)] = job
            for future in as_completed(futures):
                job = futures[future]
                outcomes[job.name] = dataclasses.replace(_outcome(job, future), key=_key(job))
                zoo().save(page=False)
                if progress is not None:
                    progress(zoo(), outcomes[job.name])
    finally:
        zoo().save()
    return zoo()


@contextlib.contextmanager
def _cancelling() -> Iterator[dict[Future[Outcome], Job]]:
    """The job of each future; left by an exception, what waits is cancelled, and what runs in this process ends."""
    futures: dict[Future[Outcome], Job] = {}
    with stopping():
        try:
            yield futures
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _outcome(job: Job, future: Future[Outcome]) -> Outcome:
    """What a future gives; of one whose worker died, that."""
    try:
        outcome = future.result()
    except Exception as error:  # of the engine
        return lost(job.name, job.source, error)
    away = [name for name in outcome.files.values() if not Path(job.output, name).exists()]
    if away:
        why = OutputError(
            f"{away[0]} was written where it is not seen from here: workers need the same {job.output}"
        )
        return dataclasses.replace(lost(job.name, job.source, why), seconds=outcome.seconds)
    return outcome


# --- what is finished ----------------------------------------------------------------------------------------


def _folder(output: Path) -> Path:
    """The folder for what is written, which holds nothing but a zoo. Raises `OutputError`."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()) and not (output / JSON).is_file():
            raise OutputError(f"{output}: holds other things than a zoo: give a folder that is new or empty")
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from error
    return output


def _key(job: Job) -> str:
    """The digest of what a conversion is asked for, whatever the files hold that it reads."""
    import bridge

    options = {name: value for name, value in job.options.items() if name not in BOUNDS}
    asked = [bridge.__version__, os.environ.get("KERAS_BACKEND", ""), job.file, job.source, options]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _is_finished(job: Job, outcome: Outcome, digests: Callable[[str], str]) -> bool:
    """Whether an earlier run made of the same what is there."""
    there = (
        outcome.files.get(what) == job.path(what).name and job.path(what).is_file()
        for what in ENDINGS
        if what != "mismatch"
    )
    same = (
        found and found == digests(os.path.join(job.folder, path)) for path, found in outcome.read.items()
    )
    return outcome.good and outcome.key == _key(job) and all(there) and all(same)


def _digest(path: str) -> str:
    return digest(path) if os.path.isfile(path) else ""


def _clear(job: Job) -> None:
    """Remove what an earlier run made of a model that is converted once more, so that nothing of it outlives that."""
    for what in ENDINGS:
        path = job.path(what)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
