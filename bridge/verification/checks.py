"""What a proof consists of, as plain data: one `Check`, its limit, and all that was found, a `Verification`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bridge.verification.bisect.origin import Located

if TYPE_CHECKING:
    import onnx_ir as ir

TORCH_ORT, ORT_KERAS, TORCH_KERAS = "torch ↔ onnxruntime", "onnxruntime ↔ Keras", "torch ↔ Keras"
SIMPLIFIED = (
    "as given ↔ as simplified"  # the graph that the user gave, or torch exported, and the one that is built
)
LEGS = (TORCH_ORT, SIMPLIFIED, ORT_KERAS, TORCH_KERAS)  # where outputs are compared
GRADIENTS, STEPS, STATISTICS = "gradients", "steps of SGD", "running statistics"  # training, torch ↔ Keras
DROPOUT = "dropout rates"  # training
TRAINING = (GRADIENTS, STEPS, STATISTICS, DROPOUT)
BACK = "weights back to torch"
PIECES = "whole sequence ↔ Keras in pieces"  # of a model that keeps its state between calls
EXPORTED = "as converted ↔ {}"  # of `Conversion.export`, with the name of the format
SERVED = "as converted ↔ for inference"  # Keras, of the model that `Conversion.for_inference` makes
AFTER = "as converted ↔ "  # begins the legs of what is made of the model, which say nothing of its source

LIMIT = 1e-5  # of the relative error of values, in any type that has no limit of its own
BRANCH = "values for another branch"  # of an If, with a number behind it: what values are of that are not odd
LIMITS = {  # of types that round ten thousand times as much, and of weights in as many bits
    "float16": 1e-2,
    "bfloat16": 8e-2,
    "int8": 0.5,  # whose worth the score of a task says: here only that nothing is broken
}
LIMIT_FLOAT64 = 1e-10  # where a source in less is computed in float64, to tell a wrong formula from rounding
LIMIT_TRAINING = 1e-8  # of gradients, steps and statistics in float64


def limit_of(dtype: str) -> float:
    """Of the relative error of values in this precision."""
    return LIMITS.get(dtype, LIMIT)


@dataclass(frozen=True)
class Check:
    """One comparison: largest relative error over all outputs on one leg, at one choice of sizes."""

    leg: str
    sizes: str  # "batch=3, time=7"
    error: float
    limit: float
    dtype: str = "float32"
    failure: str = ""  # what one of the two said instead of giving outputs
    values: str = ""  # what is odd about the values of the inputs: "large numbers"
    backend: str = ""  # of Keras, if in a process of its own on that one, from the saved file
    part: str = (
        ""  # of a failed one in training: the parameter, variable or torch module at which the two differ
    )

    @property
    def name(self) -> str:
        """The leg, and the backend of Keras where that is not the session's."""
        return f"{self.leg} on {self.backend}" if self.backend else self.leg

    @property
    def at(self) -> str:
        """Sizes and values, in words."""
        return f"{self.sizes}; {self.values}" if self.values else self.sizes

    @property
    def passed(self) -> bool:
        return self.error <= self.limit


@dataclass(frozen=True)
class Gradient:
    """The relative error of the gradient of one torch parameter, in float64."""

    name: str
    error: float


def by_leg(checks: Iterable[Check]) -> dict[tuple[str, str], list[Check]]:
    """The checks of each leg, by its name and precision, in the order in which these come."""
    legs: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        legs.setdefault((check.name, check.dtype), []).append(check)
    return legs


def all_pass(checks: Sequence[Check]) -> bool:
    """Whether there are checks and none of them fails."""
    return bool(checks) and all(check.passed for check in checks)


def amplified(checks: Sequence[Check], dtype: str) -> bool:
    """Whether a network that computes in `dtype` amplifies rounding, so that its values were judged by the source's
    own."""
    random = (c for c in checks if c.leg in LEGS and c.dtype == dtype and not c.values)
    return any(check.limit > limit_of(check.dtype) for check in random)


@dataclass(frozen=True)
class Verification:
    """What comparing a Keras model with its source found."""

    checks: tuple[Check, ...] = ()
    # Relative, against onnxruntime given the same, by the sizes at which: "batch=3, time=7"
    errors: Mapping[ir.Node, Mapping[str, float]] = field(default_factory=dict)
    gradients: tuple[Gradient, ...] = ()
    notes: tuple[str, ...] = ()  # conditions that hold beyond the checks
    drawn: Mapping[str, str] = field(default_factory=dict)  # of every input, the values that it was given
    unvaried: tuple[str, ...] = ()  # outputs that were one number at all inputs, and it: "features (0.0)"
    dtype: str = "float32"  # the coarsest precision of floating point that the source computes in
    first_mismatch: str = ""  # leg and first node that departs, when a check failed
    located: Located | None = None  # the same as data, and by itself

    @property
    def verified(self) -> bool:
        return all_pass(self.checks)

    @property
    def amplifies(self) -> bool:
        """Whether the network amplifies rounding, so that its values were judged by the source's own."""
        return amplified(self.checks, self.dtype)

    def joined(self, other: Verification) -> Verification:
        """With the checks of another kind, their gradients, and what they note that is not noted yet."""
        return replace(
            self,
            checks=(*self.checks, *other.checks),
            gradients=(*self.gradients, *other.gradients),
            notes=(*self.notes, *(note for note in other.notes if note not in self.notes)),
            first_mismatch=self.first_mismatch or other.first_mismatch,
            located=self.located or other.located,
        )
