"""Training parity: the same gradients, and the same weights after the same steps.

Both sides (`sides.py`) train on the same batches. A gradient with respect to a Keras variable goes back to torch's
names through its recipe (`Recipe.adjoint`), so a parameter used twice collects both.

Three things differ by definition and are compared as what they are:

- torch steps on two biases where Keras has their sum, so one step of SGD moves torch's sum twice as far
  (`Weight.copies`); the step is compared on the sum, with that factor.
- torch's BatchNorm stores the unbiased running variance, Keras the biased one (`statistics.py`).
- what rounding decides, such as a gradient through a saturated gate, is off by as much as rounding moves torch's own
  (`shaken.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bridge.build.assembly import Built
from bridge.frontend.torch.module import Torch
from bridge.verification.checks import (
    BACK,
    GRADIENTS,
    LIMIT,
    LIMIT_TRAINING,
    STATISTICS,
    STEPS,
    Check,
    Gradient,
)
from bridge.verification.inputs.sampler import Sampler, sizes_text
from bridge.verification.metrics import Arrays, cast, relative_error
from bridge.verification.precision import ROUNDING_FACTOR
from bridge.verification.training.dropout import check_dropout
from bridge.verification.training.sides import ByName, Factors, KerasSide, TorchSide, Trainable, loss_factors
from bridge.verification.training.statistics import biased_variance
from bridge.weights.weight_map import WeightMap

SMALL_GRADIENT = 1e-3  # a gradient that is smaller than this share of the largest is judged by that share
ALONE = 0.1  # of a gradient's size: what rounding moves by so much says nothing
SHAKES = 3  # runs of torch with its last bits moved


@dataclass(frozen=True)
class Parity:
    """What the comparison found."""

    checks: tuple[Check, ...]
    gradients: tuple[Gradient, ...]
    notes: tuple[str, ...]
    wanted: ByName  # torch's gradients of the first step


@dataclass(frozen=True)
class Departure:
    """How far the two sides are apart in one comparison, by the name of a parameter or the path of a variable."""

    leg: str
    at: str
    errors: dict[str, float]
    # Of running variances: how many a channel has in the batch
    values: dict[str, int] = field(default_factory=dict)

    def check(self, limit: float, dtype: str, doubts: dict[str, float]) -> Check:
        """That of them which comes closest to its limit, or goes furthest beyond, which is then named: `limit`,
        or what rounding allows where there are `doubts`. What rounding alone decides is none of them."""
        names = [name for name in self.errors if doubts.get(name, 0.0) < ALONE]
        limits = {name: max(limit, ROUNDING_FACTOR * doubts.get(name, 0.0)) for name in names}
        worst = max(names, key=lambda name: self.errors[name] / limits[name], default="")
        check = Check(self.leg, self.at, self.errors.get(worst, 0.0), limits.get(worst, limit), dtype)
        return check if check.passed else replace(check, sizes=f"{self.at}: {worst}", part=worst)


Batch = tuple[Arrays, Factors]


@dataclass(frozen=True)
class Course:
    """The steps that both sides take, and the variables that are compared."""

    weights: WeightMap
    sizes: str
    batches: list[Batch]

    def departures(self, ours: KerasSide | TorchSide, theirs: TorchSide) -> Iterator[Departure]:
        """Each comparison in turn, until torch's parameters are no numbers any more. Weights that torch computes of
        others step with those, which Keras does not have, and a parameter that is several variables in Keras steps
        apart there: of such a model only the gradients are compared."""
        start = theirs.held(self.weights)
        for number, (inputs, weights) in enumerate(self.batches):
            wanted, got = theirs.step(inputs, weights), ours.step(inputs, weights)
            if not number:
                known = {n: gradient for n, gradient in wanted.items() if n not in self.weights.indirect}
                yield Departure(GRADIENTS, self.sizes, gradient_errors(got, known))
            want, have = theirs.held(self.weights), ours.held(self.weights)
            if self.weights.indirect or self.weights.parted or not all(np.isfinite(x).all() for x in want):
                return
            if not number and theirs.training:
                errors, values = _updates(
                    self.weights, theirs, isinstance(ours, TorchSide), start, want, have
                )
                if errors:
                    yield Departure(STATISTICS, f"{self.sizes}, after one step", errors, values)
            yield Departure(STEPS, f"after step {number + 1}", _moved(self.weights, have, want))

    def doubts(self, reference: Torch, start: ByName, training: bool) -> list[dict[str, float]]:
        """The errors of each comparison that rounding alone makes in torch, from the parameters `start` on."""
        runs = []
        for seed in range(SHAKES):
            sides = [TorchSide(reference.copy(), shaken) for shaken in (seed, None)]
            for side in sides:
                side.start(start, training)
            runs.append([departure.errors for departure in self.departures(*sides)])
        return [_largest(errors) for errors in zip(*runs, strict=False)]


def parity(built: Built, reference: Torch, sampler: Sampler, steps: int = 5) -> Parity:
    """Compare gradients in float64, and the parameters after each of `steps` steps, at the exported sizes.

    `built` and `reference` are in float64 and are trained: give copies.
    """
    theirs, sizes = TorchSide(reference), sampler.exported()
    theirs.check_deterministic(reference.examples)
    checks = [check] if (check := check_dropout(built, reference.copy(), reference.examples)) else []
    draws = [cast(sampler.draw(sizes, 1000 + number), "float64") for number in range(steps)]
    batches = [(inputs, loss_factors(reference, inputs, "float64", k)) for k, inputs in enumerate(draws)]
    course, start = Course(built.weights, sizes_text(sizes), batches), theirs.state()
    found = list(course.departures(KerasSide(built, "float64", theirs.training), theirs))
    judged = [one.check(LIMIT_TRAINING, "float64", {}) for one in found]
    back = _back(built.weights, found)
    notes = _conditions(theirs, built.weights, found, steps)
    if not all(check.passed for check in judged):
        doubts = course.doubts(reference, start, theirs.training)
        judged = [
            one.check(LIMIT_TRAINING, "float64", doubt) for one, doubt in zip(found, doubts, strict=False)
        ]
        notes += _doubted(found[0], doubts[0])
    table = tuple(Gradient(name, error) for name, error in sorted(found[0].errors.items()))
    return Parity((*checks, *judged, *back), table, tuple(notes), theirs.first)


def _back(weights: WeightMap, found: Sequence[Departure]) -> list[Check]:
    """Whether what the model has learned is, taken back to torch, what makes the same variables."""
    if found[-1].leg != STEPS or weights.one_way:
        return []
    state, held = weights.pull(), [np.array(entry.variable) for entry in weights]
    errors = _moved(weights, [np.array(entry.recipe.push(state)) for entry in weights], held)
    return [Departure(BACK, found[-1].at, errors).check(LIMIT_TRAINING, "float64", {})]


def _conditions(side: TorchSide, weights: WeightMap, found: Sequence[Departure], steps: int) -> list[str]:
    """What holds of a comparison, beyond what it gives."""
    notes = []
    if not side.training:
        notes.append(
            "forward is random in training mode beyond dropout: training was compared in evaluation mode"
        )
    if side.dropped:
        notes.append(
            f"scaled_dot_product_attention drops with p={', '.join(map(str, sorted(side.dropped)))} in training, "
            f"which the Keras model does not: evaluation mode does not show it (nn.MultiheadAttention's is kept)"
        )
    if weights.indirect:
        notes.append(
            f"{_few(weights.indirect)}: torch computes a weight of it, which in Keras trains by itself: only the "
            f"gradients of other parameters were compared"
        )
    if weights.parted:
        notes.append(
            f"{_few(tuple(weights.parted))}: trains apart in Keras: only the gradients were compared"
        )
    elif not weights.indirect and (taken := sum(one.leg == STEPS for one in found)) < steps:
        notes.append(f"after step {taken + 1} torch's parameters are no numbers: compared up to there")
    summed = sorted({name for e in weights if e.weight.copies > 1 for name in e.recipe.names})
    if summed:
        notes.append(
            f"{len(summed)} parameters are summed in Keras (two biases, one variable): a step of SGD moves their sum "
            f"twice as far in torch, and was compared with that factor"
        )
    return notes + [note for one in found if (note := _unbiased(one.values))]


def _doubted(gradients: Departure, doubts: dict[str, float]) -> list[str]:
    """Which gradients rounding moves so far that they have a limit of their own, or none."""
    alone = [name for name in gradients.errors if doubts.get(name, 0.0) >= ALONE]
    moved = [
        name for name in gradients.errors if ALONE > doubts.get(name, 0.0) > LIMIT_TRAINING / ROUNDING_FACTOR
    ]
    said = (
        (alone, "rounding alone decides the gradient of {}: not compared"),
        (moved, "rounding moves the gradient of {} in torch too: it was allowed to be off by ten times that"),
    )
    return [text.format(_few(names)) for names, text in said if names]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def exact_gradients(reference: Torch, sampler: Sampler) -> ByName:
    """torch's gradients by name, of the inputs and loss that `single_precision` takes. `reference` is in float64."""
    side, inputs = TorchSide(reference), sampler.draw(sampler.exported(), 1000)
    side.check_deterministic(inputs)
    return side.step(inputs, loss_factors(reference, inputs, "float64", 0))


def single_precision(built: Trainable, reference: Torch, sampler: Sampler, wanted: ByName) -> Check:
    """Gradients in float32 against the exact ones, `wanted`: Keras's rounding may be a small multiple of torch's."""
    inputs = sampler.draw(sampler.exported(), 1000)
    batch = inputs, loss_factors(reference, inputs, "float32", 0)
    theirs = TorchSide(reference)
    training, start = theirs.check_deterministic(inputs), theirs.state()
    known = {name: gradient for name, gradient in wanted.items() if name not in built.weights.indirect}
    ours = KerasSide(built, "float32", training).step(*batch)
    found = Departure(GRADIENTS, sizes_text(sampler.exported()), gradient_errors(ours, known))
    doubts = gradient_errors(theirs.step(*batch), known)
    check = found.check(LIMIT, "float32", doubts)
    for seed in range(0 if check.passed else SHAKES):
        side = TorchSide(reference.copy(), seed)
        side.start(start, training)
        doubts = _largest([doubts, gradient_errors(side.step(*batch), known)])
    return check if check.passed else found.check(LIMIT, "float32", doubts)


def _largest(errors: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: max(one.get(name, 0.0) for one in errors) for name in errors[0]}


def gradient_errors(got: ByName, want: ByName) -> dict[str, float]:
    """The relative error of each gradient; those that are (nearly) zero are measured against the largest of all.
    Where torch has NaN or infinities, nothing is compared."""
    places = {name: np.isfinite(g) for name, g in want.items() if g.size}
    sizes = {name: float(np.abs(want[name][where]).max(initial=0.0)) for name, where in places.items()}
    least = max(SMALL_GRADIENT * max(sizes.values(), default=0.0), 1e-30)
    apart = {name: np.abs(got[name] - want[name])[where] for name, where in places.items()}
    return {
        name: float(np.nan_to_num(x, nan=np.inf).max(initial=0.0)) / max(sizes[name], least)
        for name, x in apart.items()
    }


def _moved(weights: WeightMap, got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> dict[str, float]:
    """The error of each trained variable, relative as in `gradient_errors`: a bias that has no gradient (that of keys,
    in attention) is rounding alone where it starts from zero."""
    places = [place for place, entry in enumerate(weights) if entry.variable.trainable]
    ours, theirs = ({weights.entries[k].variable.path: side[k] for k in places} for side in (got, want))
    return gradient_errors(ours, theirs)


def _updates(
    weights: WeightMap, theirs: TorchSide, unbiased: bool, before: Sequence[np.ndarray], want: Sequence[np.ndarray],
    got: Sequence[np.ndarray],
) -> tuple[dict[str, float], dict[str, int]]:  # fmt: skip
    """BatchNorm's running statistics after one step, of another torch module if `unbiased`, and of running variances
    how many values a channel has in the batch."""
    errors, values = dict[str, float](), dict[str, int]()
    for entry, old, theirs_now, ours_now in zip(weights, before, want, got, strict=True):
        name = entry.recipe.names[0]
        if name.endswith("running_mean"):
            errors[name] = relative_error(ours_now, theirs_now)
        if name.endswith("running_var"):
            layer = theirs.module.get_submodule(name.rpartition(".")[0])
            batches = theirs.normalised.get(layer, [])
            if batches and not unbiased:
                variances = [entry.recipe.push({name: variance}) for _, variance in batches]
                theirs_now = biased_variance(old, getattr(layer, "momentum", None) or 0.0, variances)
            errors[name] = relative_error(ours_now, theirs_now)
            if batches:
                values[name] = batches[0][0]
    return errors, values


def _unbiased(counts: dict[str, int]) -> str:
    """How far the running variances are apart, by the values a channel has in a batch."""
    if not counts:
        return ""
    few, plural = min(counts, key=counts.__getitem__), "s" * (len(counts) > 1)
    return (
        f"{len(counts)} running variance{plural}: torch stores the unbiased variance, Keras the biased one; an update "
        f"differs by n / (n - 1) for n values a channel, at these sizes n = {counts[few]} ({few}) to "
        f"{max(counts.values())}"
    )
