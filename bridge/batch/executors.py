"""Engines that run many calls, each as a `concurrent.futures.Executor`: the one seam to them; they schedule."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from bridge.errors import ProcessError, SourceError, imported, short_message

ENGINES = ("local", "dask", "ray")


@contextlib.contextmanager
def engine(name: str = "local", workers: int | None = None, address: str | None = None) -> Iterator[Executor]:
    """The executor of an engine: threads here, each of which waits for the process of one model, or one with `workers`
    that is started for this, or one that runs at `address`."""
    if address is not None and (name == "local" or workers is not None):
        why = "local has none" if name == "local" else "whoever started it has said how many workers it has"
        raise SourceError(f"an address is of dask or ray that run already: {why}")
    with {"local": _local, "dask": _dask, "ray": _ray}[name](workers or _default(), address) as executor:
        yield executor


def _default() -> int:
    """Half of the processors: frameworks use several each."""
    return max(1, (os.cpu_count() or 1) // 2)


@contextlib.contextmanager
def _local(workers: int, address: str | None) -> Iterator[Executor]:
    with ThreadPoolExecutor(workers, "bridge") as pool:
        yield pool


@contextlib.contextmanager
def _dask(workers: int, address: str | None) -> Iterator[Executor]:
    distributed = imported("distributed", "an executor of dask", "dask")
    own = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with _reaching("dask", address):
        client = distributed.Client(**({"address": address} if address else own))
    with client:
        yield client.get_executor(pure=False)


@contextlib.contextmanager
def _ray(workers: int, address: str | None) -> Iterator[Executor]:
    ray = imported("ray", "an executor of ray", "ray")
    given = {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
    with _reaching("ray", address):
        ray.init(**given, log_to_driver=False, logging_level="ERROR")
    try:
        yield _Ray(ray)
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _reaching(name: str, address: str | None) -> Iterator[None]:
    """What goes wrong while an engine is reached or started is a `ProcessError`."""
    try:
        yield
    except Exception as error:
        where = f"there is no {name} at {address}" if address else f"{name} does not start"
        raise ProcessError(f"{where}: {short_message(error)}") from error


class _Ray(Executor):
    """Ray's remote functions, which give futures too."""

    def __init__(self, ray: Any):
        self._ray = ray

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        reference = self._ray.remote(max_retries=0)(fn).remote(*args, **kwargs)
        future: Future[Any] = reference.future()
        future.add_done_callback(lambda done: done.cancelled() and self._ray.cancel(reference, force=True))
        return future
