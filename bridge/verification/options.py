"""What a proof is to compare, and at which inputs: `bridge.Verify`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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

    Example:
        >>> bridge.convert(module, args, verify=bridge.Verify(training=True, sizes={"time": (5, 80)}))
    """

    sizes: Mapping[str, Any] = field(default_factory=dict)
    inputs: Any = None
    seed: int = 0
    float64: bool = False
    training: bool = False

    @classmethod
    def of(cls, verify: bool | Verify) -> Verify | None:
        """Out of what `bridge.convert` takes; None where nothing is to be compared."""
        if isinstance(verify, Verify):
            return verify
        return cls() if verify else None
