"""The rules of torch's optimizers, step for step, as optimizers of Keras.

Their settings have torch's names. A variable is the sum of its parts, which are torch's parameters: nearly always
one, but two for the biases of an LSTM, each of which torch steps by itself. None is a part that torch leaves as it is.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple, TypeAlias

import keras
from keras import ops

from bridge.keras_compat import Config, place_of
from bridge.package import PACKAGE

Tensor: TypeAlias = Any  # of the backend: an array, or what stands for one while a step is traced
Optimizer: TypeAlias = keras.optimizers.Optimizer
Moments: TypeAlias = "list[keras.Variable]"


class Part(NamedTuple):
    """What torch's group of a parameter says, and when its steps began."""

    rate: float = 1.0  # times that of the optimizer
    weight_decay: float = 0.0
    started: int = 0  # the count of steps before its first


class TorchOptimizer(Optimizer):
    """What the rules have in common. `parts` are those of each trainable variable, in the order of the model."""

    SETTINGS: ClassVar[tuple[str, ...]] = ("maximize",)  # of all groups, by torch's names

    def __init__(
        self,
        learning_rate: Any,
        parts: Any,
        *,
        maximize: bool = False,
        name: str | None = None,
        **settings: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **settings)
        self.parts = tuple(tuple(part and Part(*part) for part in of_one) for of_one in parts)
        self.maximize = maximize

    @property
    @abstractmethod
    def moments(self) -> tuple[str, ...]:
        """What torch calls the moments of a parameter."""

    def build(self, variables: list[keras.Variable]) -> None:
        """Make the moments of each part, and hold all parts but the first, which is what is left of the variable."""
        if self.built:
            return
        if len(variables) != len(self.parts):
            raise ValueError(
                f"{type(self).__name__} was made for {len(self.parts)} trained variables, and the model has "
                f"{len(variables)}: load it with compile=False, or freeze what was frozen"
            )
        super().build(variables)
        self.rest, self.held = [], []
        for variable, parts in zip(variables, self.parts, strict=True):
            made = self.add_variable_from_reference
            self.rest.append([made(variable, f"part_{k}") for k in range(1, len(parts))])
            names = [[f"{name}_{k}" for name in self.moments] if part else [] for k, part in enumerate(parts)]
            self.held.append([[made(variable, name) for name in of_part] for of_part in names])

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        """Step each part of `variable`."""
        place, dtype = place_of(variable, self), variable.dtype
        value = ops.convert_to_tensor(variable)
        gradient = ops.zeros_like(value) + ops.cast(
            gradient, dtype
        )  # which may be rows of it, some of them twice
        gradient = -gradient if self.maximize else gradient
        rest = [ops.convert_to_tensor(part) for part in self.rest[place]]
        values = [value - sum(rest) if rest else value, *rest]
        for k, part in enumerate(self.parts[place]):
            if part is None:
                continue
            rate = ops.cast(learning_rate, dtype) * part.rate
            step = ops.cast(self.iterations + (1 - part.started), dtype)
            change = self.change(gradient, values[k], self.held[place][k], rate, part.weight_decay, step)
            self.assign_add(variable, change)
            if k:
                self.assign_add(self.rest[place][k - 1], change)

    @abstractmethod
    def change(
        self, gradient: Tensor, value: Tensor, moments: Moments, rate: Tensor, decay: float, step: Tensor
    ) -> Tensor:
        """What is added to a part, in its step of that number, after which it has other moments."""

    def settings(self) -> Config:
        """Those of all groups, by torch's names."""
        return {name: getattr(self, name) for name in self.SETTINGS}

    def get_config(self) -> Config:
        parts = [[part and list(part) for part in of_one] for of_one in self.parts]
        settings = {
            name: list(value) if isinstance(value, list) else value for name, value in self.settings().items()
        }
        return super().get_config() | {"parts": parts} | settings


@keras.saving.register_keras_serializable(PACKAGE)
class TorchSGD(TorchOptimizer):
    """`torch.optim.SGD`: the rate stands outside of the momentum, and the decay inside."""

    SETTINGS = ("momentum", "dampening", "nesterov", "maximize")

    def __init__(
        self,
        learning_rate: Any,
        parts: Any,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        **settings: Any,
    ):
        super().__init__(learning_rate, parts, **settings)
        self.momentum, self.dampening, self.nesterov = momentum, dampening, nesterov

    @property
    def moments(self) -> tuple[str, ...]:
        return ("momentum_buffer",) if self.momentum else ()

    def change(self, gradient, value, moments, rate, decay, step):
        gradient = gradient + decay * value if decay else gradient
        for buffer in moments:
            taken = ops.where(step == 1, ops.ones_like(step), 1 - self.dampening)
            moved = self.momentum * buffer + taken * gradient
            self.assign(buffer, moved)
            gradient = gradient + self.momentum * moved if self.nesterov else moved
        return -rate * gradient


@keras.saving.register_keras_serializable(PACKAGE)
class TorchAdam(TorchOptimizer):
    """`torch.optim.Adam`, and `AdamW` if `decoupled_weight_decay`: epsilon is added to the corrected root."""

    SETTINGS = ("betas", "eps", "amsgrad", "maximize", "decoupled_weight_decay")

    def __init__(
        self,
        learning_rate: Any,
        parts: Any,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        amsgrad: bool = False,
        decoupled_weight_decay: bool = False,
        **settings: Any,
    ):
        super().__init__(learning_rate, parts, **settings)
        self.betas, self.eps = list(betas), eps
        self.amsgrad, self.decoupled_weight_decay = amsgrad, decoupled_weight_decay

    @property
    def moments(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if self.amsgrad else []))

    def change(self, gradient, value, moments, rate, decay, step):
        mean, square, *largest = moments
        beta_1, beta_2 = self.betas
        if decay and not self.decoupled_weight_decay:
            gradient = gradient + decay * value
        moved = mean + (gradient - mean) * (1 - beta_1)
        spread = beta_2 * square + (1 - beta_2) * ops.square(gradient)
        self.assign(mean, moved)
        self.assign(square, spread)
        for variable in largest:
            spread = ops.maximum(variable, spread)
            self.assign(variable, spread)
        root = ops.sqrt(spread) / ops.sqrt(_correction(beta_2, step)) + self.eps
        change = -rate / _correction(beta_1, step) * moved / root
        return change - rate * decay * value if decay and self.decoupled_weight_decay else change


def _correction(beta: float, step: Tensor) -> Tensor:
    """`1 - beta**step`, which subtracting would round where beta is near 1."""
    return -ops.expm1(step * math.log(beta)) if beta else ops.ones_like(step)


@keras.saving.register_keras_serializable(PACKAGE)
class TorchRMSprop(TorchOptimizer):
    """`torch.optim.RMSprop`: epsilon is added to the root, and the rate stands outside of the momentum."""

    SETTINGS = ("alpha", "eps", "momentum", "centered", "maximize")

    def __init__(
        self,
        learning_rate: Any,
        parts: Any,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        **settings: Any,
    ):
        super().__init__(learning_rate, parts, **settings)
        self.alpha, self.eps, self.momentum, self.centered = alpha, eps, momentum, centered

    @property
    def moments(self) -> tuple[str, ...]:
        further = {"grad_avg": self.centered, "momentum_buffer": self.momentum}
        return ("square_avg", *(name for name, there in further.items() if there))

    def change(self, gradient, value, moments, rate, decay, step):
        held = dict(zip(self.moments, moments, strict=True))
        gradient = gradient + decay * value if decay else gradient
        spread = self.alpha * held["square_avg"] + (1 - self.alpha) * ops.square(gradient)
        self.assign(held["square_avg"], spread)
        if self.centered:
            mean = held["grad_avg"] + (gradient - held["grad_avg"]) * (1 - self.alpha)
            self.assign(held["grad_avg"], mean)
            spread = spread - ops.square(mean)
        change = gradient / (ops.sqrt(spread) + self.eps)
        if self.momentum:
            change = self.momentum * held["momentum_buffer"] + change
            self.assign(held["momentum_buffer"], change)
        return -rate * change
