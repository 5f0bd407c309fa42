"""For tests of one's own: two models are equal, or the test says where they depart first.

    from bridge.testing import assert_equal_models

    def test_converted():
        assert_equal_models("model.keras", Net(), torch.randn(1, 3, 32, 32))

In pytest the seed of the inputs is drawn anew at each run, kept where a test fails until it passes, and said with the
first mismatch (`bridge.pytest_plugin`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bridge.errors import MismatchError

if TYPE_CHECKING:
    import keras

    from bridge.converted import Conversion
    from bridge.report.report import Report
    from bridge.verification.options import Verify

SEED: ContextVar[int] = ContextVar("seed", default=0)  # of the inputs of the test that runs


class ModelsDiffer(AssertionError):
    """Two models are not equal.

    Attributes:
        report: the `Report`, whose `origin` says where they depart first.

    Examples:
        >>> try:
        ...     assert_equal_models("model.keras", module, args)
        ... except ModelsDiffer as error:
        ...     error.report.save("why.html")
    """

    def __init__(self, message: str, report: Report):
        self.report = report
        super().__init__(message)


def assert_equal_models(
    model: keras.Model | Conversion | str | os.PathLike[str],
    source: object,
    args: object = None,
    kwargs: Mapping[str, object] | None = None,
    *,
    dynamic_shapes: object = None,
    options: Verify | None = None,
    seed: int | None = None,
) -> Report:
    """Prove that a Keras model computes what its source does.

    Args:
        model: the path of a `.keras` file, a `keras.Model` or a `Conversion`; it is compared as it is loaded again.
        source, args, kwargs, dynamic_shapes: as `bridge.convert` takes them.
        options: what is compared, and at which inputs.
        seed: of the inputs that are drawn; else that of `options`, or in pytest the test's.

    Returns:
        The report of the comparison.

    Raises:
        ModelsDiffer: the two differ, an `AssertionError` that says where first.
        BridgeError: as `bridge.verify` does.

    Examples:
        >>> assert_equal_models("model.keras", module, args)
    """
    from bridge.diagnosis import verify_located
    from bridge.verification.options import Verify

    chosen = options or Verify()
    if seed is not None or options is None:
        chosen = replace(chosen, seed=SEED.get() if seed is None else seed)
    with TemporaryDirectory() as folder:
        path = _on_disk(model, Path(folder))
        try:
            return verify_located(path, source, args, kwargs, dynamic_shapes=dynamic_shapes, options=chosen)
        except MismatchError as error:
            origin = error.report.origin
            told = [] if origin is None else [str(origin), *origin.told]
            lines = [f"{error} (seed {chosen.seed})", *told]
            raise ModelsDiffer("\n".join(lines), error.report) from None


def _on_disk(model: keras.Model | Conversion | str | os.PathLike[str], folder: Path) -> Path:
    if isinstance(model, str | os.PathLike):
        return Path(model)
    path = folder / "model.keras"
    model.save(path)
    return path
