"""torch's schedulers as Keras's schedules, where both give the same rate at every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
from keras import ops

from bridge.errors import WeightsError
from bridge.keras_compat import Config
from bridge.package import PACKAGE

Schedule: TypeAlias = keras.optimizers.schedules.LearningRateSchedule
schedules = keras.optimizers.schedules
WAY_OUT = "leave it out, and set the rate as you go: keras.callbacks.LearningRateScheduler"


@keras.saving.register_keras_serializable(PACKAGE)
class CosineAnnealing(Schedule):
    """`torch.optim.lr_scheduler.CosineAnnealingLR`, which rises again after `half_period` calls, when Keras's
    CosineDecay stays."""

    def __init__(
        self, initial_learning_rate: float, half_period: int, least: float = 0.0, steps_per_call: int = 1
    ):
        self.initial_learning_rate, self.half_period = initial_learning_rate, half_period
        self.least, self.steps_per_call = least, steps_per_call

    def __call__(self, step: Any) -> Any:
        calls = ops.cast(ops.floor_divide(step, self.steps_per_call), keras.config.floatx())
        height = (self.initial_learning_rate - self.least) / 2
        return self.least + height * (1 + ops.cos(calls * (math.pi / self.half_period)))

    def get_config(self) -> Config:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "half_period": self.half_period,
            "least": self.least,
            "steps_per_call": self.steps_per_call,
        }


def _steps(scheduler: Any, rate: float, every: int) -> Schedule:
    return schedules.ExponentialDecay(rate, scheduler.step_size * every, scheduler.gamma, staircase=True)


def _milestones(scheduler: Any, rate: float, every: int) -> Schedule:
    passed = sorted(scheduler.milestones.items())
    powers = [sum(times for _, times in passed[:k]) for k in range(len(passed) + 1)]
    return _pieces([count for count, _ in passed], [rate * scheduler.gamma**power for power in powers], every)


def _exponential(scheduler: Any, rate: float, every: int) -> Schedule:
    return schedules.ExponentialDecay(rate, every, scheduler.gamma, staircase=every > 1)


def _constant(scheduler: Any, rate: float, every: int) -> Schedule:
    return _pieces([scheduler.total_iters], [rate * scheduler.factor, rate], every)


def _linear(scheduler: Any, rate: float, every: int) -> Schedule:
    first, last = rate * scheduler.start_factor, rate * scheduler.end_factor
    return _polynomial(first, last, scheduler.total_iters, 1.0, every)


def _power(scheduler: Any, rate: float, every: int) -> Schedule:
    return _polynomial(rate, 0.0, scheduler.total_iters, float(scheduler.power), every)


def _polynomial(first: float, last: float, total: int, power: float, every: int) -> Schedule:
    if every == 1:
        return schedules.PolynomialDecay(first, total, last, power)
    rates = [last + (first - last) * (1 - count / total) ** power for count in range(total + 1)]
    return _pieces(range(1, total + 1), rates, every)


def _pieces(counts: Sequence[int], rates: Sequence[float], every: int) -> Schedule:
    """The next of the rates from each count of calls on; Keras names the last step before."""
    return schedules.PiecewiseConstantDecay([count * every - 1 for count in counts], list(rates))


def _cosine(scheduler: Any, rate: float, every: int) -> Schedule:
    return CosineAnnealing(rate, scheduler.T_max, float(scheduler.eta_min), every)


def _restarts(scheduler: Any, rate: float, every: int) -> Schedule:
    if scheduler.T_mult != 1 or every != 1:
        raise WeightsError(
            f"Keras has CosineAnnealingWarmRestarts with T_mult=1 and one step a call: {WAY_OUT}"
        )
    return schedules.CosineDecayRestarts(rate, scheduler.T_0, 1.0, 1.0, scheduler.eta_min / rate)


# By torch's name; of the scheduler, the rate that it starts from, and the steps between two calls of it
SCHEDULES: dict[str, Callable[[Any, float, int], Schedule]] = {
    "StepLR": _steps,
    "MultiStepLR": _milestones,
    "ExponentialLR": _exponential,
    "ConstantLR": _constant,
    "LinearLR": _linear,
    "PolynomialLR": _power,
    "CosineAnnealingLR": _cosine,
    "CosineAnnealingWarmRestarts": _restarts,
}


def schedule_of(scheduler: Any, rate: float, steps_per_call: int) -> Schedule:
    """The schedule that starts from `rate`. Raises `WeightsError` where Keras has none that gives the same."""
    name = type(scheduler).__name__
    if name not in SCHEDULES or not type(scheduler).__module__.startswith("torch.optim"):
        raise WeightsError(f"Keras has no schedule that is torch's {name}: {WAY_OUT}")
    if not rate:
        raise WeightsError(f"{name} starts from a rate of 0, of which Keras makes no other: {WAY_OUT}")
    if len(set(scheduler.base_lrs)) > 1 and getattr(scheduler, "eta_min", None):
        raise WeightsError(
            f"{name} leads groups of different rates to one eta_min, and Keras has one schedule: {WAY_OUT}"
        )
    return SCHEDULES[name](scheduler, rate, steps_per_call)
