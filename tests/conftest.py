"""One thread for every framework, and a Keras backend; set before any of them is imported."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


@pytest.fixture
def build_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[..., Any]], None]:
    """`build_with("Relu", function)`: another function builds that operator, a wrong one for the proof to catch."""
    from bridge.ops.registry import find

    def replace(name: str, function: Callable[..., Any]) -> None:
        other = dataclasses.replace(find("", name), function=function, takes_site=False)
        monkeypatch.setattr(
            "bridge.plan.operands.find", lambda *key: other if key == ("", name) else find(*key)
        )

    return replace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder within another, beside which a file that reaches outside would leave something."""
    inner = tmp_path / "inner"
    inner.mkdir()
    return inner


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A model and its map."""
    from hostile import saved_pair

    return saved_pair(tmp_path_factory.mktemp("good") / "m.keras")
