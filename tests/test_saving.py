"""Saving, cut short at any moment: the old model with its map is there, or the new one with its own."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import bridge
from bridge import saving
from bridge.files.atomic import write_atomically

SIZE = 200_000


def pair(number: int) -> tuple[Any, Any, Any]:
    """What `saving.save` takes, with `number` in the model and in the map."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("number", str(number))
            archive.writestr("config.json", bytes(SIZE))

    values = {"number": np.full(SIZE, number, np.int32)}
    state = SimpleNamespace(values=values, trainable={}, parameters=set(), aliases={}, read=set())
    weights = SimpleNamespace(state=state, kept={"number"}, to_json=list)
    return SimpleNamespace(save=write), weights, SimpleNamespace(to_json=str)


def found(path: Path) -> tuple[int, int]:
    """The number in the model and the one in the map that belongs to it."""
    with zipfile.ZipFile(path) as archive:
        number = int(archive.read("number"))
    return number, int(saving._map_of(path)["state/number"][0])


def in_a_child(work: Callable[[], None]) -> int:
    """`work` in a forked process, in which an exception is exit code 70."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(70)
        os._exit(0)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def left_over(folder: Path) -> list[str]:
    """What is there beside a model and its map, a moment after the process that saved them is gone."""
    for _ in range(100):
        names = {entry.name for entry in folder.iterdir()} - {"m.keras", "m.bridge.npz"}
        if not names:
            break
        time.sleep(0.05)
    return sorted(names)


STEPS = [
    "os.replace",
    "os.fsync",
    "numpy.savez",
    "zipfile.ZipFile.__init__",
    "os.mkdir",
    "subprocess.Popen.__init__",
    "shutil.rmtree",
]


@pytest.mark.parametrize("old", [True, False], ids=["over an old one", "a first one"])
def test_killed_at_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    path, outcomes = tmp_path / "m.keras", []
    for stop in range(1, 60):
        for entry in (path, saving.map_path(path)):
            entry.unlink(missing_ok=True)
        if old:
            saving.save(path, *pair(1))
        count = 0

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def step(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == stop:  # noqa: B023
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return step

        def work() -> None:
            for step in STEPS:
                parts = step.split(".")
                owner = __import__(parts[0])
                for part in parts[1:-1]:
                    owner = getattr(owner, part)
                setattr(owner, parts[-1], counted(getattr(owner, parts[-1])))
            saving.save(path, *pair(2))

        code = ended(in_a_child(work))
        if path.exists():
            outcomes.append(found(path))
        assert left_over(tmp_path) == []
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert code == 0
    assert set(outcomes) == ({(1, 1), (2, 2)} if old else {(2, 2)})


def test_killed_at_random_moments(tmp_path: Path) -> None:
    path, draw, seen = tmp_path / "m.keras", random.Random(0), set()
    start = time.monotonic()
    saving.save(path, *pair(0))
    longest = 3 * (time.monotonic() - start)

    def work() -> None:
        for number in range(1, 10_000):
            saving.save(path, *pair(number))

    for trial in range(100):
        if trial >= 25 and len(seen) > 1:
            break
        child = in_a_child(work)
        time.sleep(draw.uniform(0.002, max(longest, 0.08) * (1 + trial / 25)))
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
        model, map_ = found(path)
        assert model == map_
        seen.add(model)
        assert left_over(tmp_path) == []
    assert len(seen) > 1


@pytest.mark.parametrize("room", [0, 1000, 210_000, 900_000, 1_700_000])
def test_a_full_disk(tmp_path: Path, room: int) -> None:
    path = tmp_path / "m.keras"
    saving.save(path, *pair(1))

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        with pytest.raises(bridge.OutputError, match=r"m.keras: cannot be written: File too large"):
            saving.save(path, *pair(2))

    code = ended(in_a_child(work))
    assert (code, found(path)) in [(0, (1, 1)), (70, (2, 2))]
    assert (code == 70) == (room > 1_600_000)
    assert len(list(tmp_path.iterdir())) == 2


def test_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    saving.save(path, *pair(1))
    model, weights, report = pair(2)

    def interrupted(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        saving.save(path, SimpleNamespace(save=interrupted), weights, report)
    assert found(path) == (1, 1)
    assert len(list(tmp_path.iterdir())) == 2


def test_links_are_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "m.keras"
    for name in ("m.keras", "m.bridge.npz", ".m.part.keras", ".m.keras.x.part"):
        (folder / name).symlink_to(victim)
    saving.save(path, *pair(1))
    assert victim.read_text() == "as it was"
    assert found(path) == (1, 1)
    assert not path.is_symlink()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"

    def write(part: Path) -> None:
        write_atomically(path, lambda other: other.write_text("inner"))
        part.write_text("outer")

    write_atomically(path, write)
    assert path.read_text() == "outer"
    assert list(tmp_path.iterdir()) == [path]


FULL = """
import resource, signal, sys
import keras
from bridge import saving
from bridge.errors import OutputError
from tests.test_saving import pair

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
model = keras.Sequential([keras.layers.Input((100,)), keras.layers.Dense(1000)])
try:
    saving.save(__import__("pathlib").Path(sys.argv[1]), model, *pair(2)[1:])
except OutputError as error:
    print(error)
"""


def test_a_full_disk_while_keras_writes(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    saving.save(path, *pair(1))
    run = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"{path}: cannot be written: "), run.stderr
    assert len(run.stdout.splitlines()) == 1
    assert found(path) == (1, 1)
    assert len(list(tmp_path.iterdir())) == 2
