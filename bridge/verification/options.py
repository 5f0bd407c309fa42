"""What a proof is to compare, and at which inputs: `bridge.Verify`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bridge.errors import MissingPackageError, SourceError

if TYPE_CHECKING:
    from bridge.frontend.asked import Inputs

BACKENDS = ("tensorflow", "jax", "torch")  # of Keras, that train


@dataclass(frozen=True)
class Verify:
    """What `bridge.convert` and `bridge.verify` compare, and at which inputs.

    Args:
        sizes: of free axes, those to try, by the name of the axis: `{"height": (320, 640)}`, in elements. Otherwise
            legal ones are found.
        inputs: what is run first, where the source has no example inputs or other ones are wanted: arrays by name or
            in order, the path of an `.npz` or `.npy` file, or a function that gives such arrays. A function of one
            argument is called for every choice of sizes, `{"batch": 3, "time": 7}`. Shapes and types are those of
            the source.
        seed: of all inputs that are drawn, not negative; the report records it.
        float64: also compare the two in double precision, which tells rounding from a wrong formula. Done in any case
            where a model amplifies rounding so far that float32 cannot tell.
        training: also compare gradients, steps of SGD and BatchNorm's statistics with those of an `nn.Module`; implies
            `float64`.
        backends: of Keras ("tensorflow", "jax", "torch"), on which the saved model is loaded and compared too, each in
            a process of its own, at the same inputs.

    Raises:
        SourceError: `backends` names what is none.
        MissingPackageError: one of them is not installed.

    Examples:
        >>> bridge.convert(module, args, verify=bridge.Verify(training=True, sizes={"time": (5, 80)}))
    """

    sizes: Mapping[str, int | Iterable[int]] = field(default_factory=dict)
    inputs: Inputs = None
    seed: int = 0
    float64: bool = False
    training: bool = False
    backends: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.backends, str):
            raise SourceError(f"backends: give a tuple, ({self.backends!r},)")
        for name in self.backends:
            if name not in BACKENDS:
                raise SourceError(f"backends: Keras has no {name!r} that trains, but {', '.join(BACKENDS)}")
            if find_spec(name) is None:
                raise MissingPackageError(
                    f"backends: {name} is not installed: pip install 'onnx-keras-bridge[{name}]'"
                )

    @classmethod
    def of(cls, verify: bool | Verify) -> Verify | None:
        """Out of what `bridge.convert` takes.

        Args:
            verify: whether to compare at all, or what.

        Returns:
            What to compare; None where nothing is.

        Examples:
            >>> Verify.of(True) == Verify()
            True
        """
        if isinstance(verify, Verify):
            return verify
        return cls() if verify else None
