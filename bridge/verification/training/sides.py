"""The two sides whose training is compared: the torch module, and the Keras model that was made of it.

Both train with dropout off, by plain SGD on the random scalar loss `sum(r * (y + y**2 / 2))`. (A loss linear in `y`
would not do: its gradient does not wait for the forward pass, and TensorFlow's graphs may then step a weight before
that pass has read it.)
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import keras
import numpy as np
from keras import ops

from bridge.errors import SourceError
from bridge.frontend.torch.module import Torch
from bridge.keras_compat import (
    all_layers,
    compiles_soon,
    full_precision,
    place_of,
    to_numpy,
    torch_in_full_precision,
)
from bridge.verification.metrics import Arrays
from bridge.verification.training.dropout import attending
from bridge.verification.training.statistics import Batches, batch_norm_inputs
from bridge.weights.tensors import array_of, tensor_of
from bridge.weights.weight_map import WeightMap

if TYPE_CHECKING:
    import torch

RUNS = 8  # in training mode, to see whether it is random
RATE = 2.0**-7  # of SGD; exact in every precision, so that the optimiser cannot round it
ByName = dict[str, np.ndarray]  # torch's name
Factors = Sequence[np.ndarray | None]  # the weights of the loss, one array for each output of floating point


class Trainable(Protocol):
    """A Keras model with the map of its weights: a `Built` or a `Conversion`."""

    @property
    def model(self) -> keras.Model: ...

    @property
    def weights(self) -> WeightMap: ...


def _rrelu(
    x: torch.Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> torch.Tensor:
    import torch

    return torch.nn.functional.leaky_relu(x, (lower + upper) / 2)


def _hardsigmoid(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    import torch

    return torch.nn.functional.relu6(x + 3) / 6


@contextlib.contextmanager
def _exact() -> Iterator[None]:
    """Steps in the precision that numbers have: torch without the functions that round in double precision, be it
    under Keras, and neither of the two with fewer digits in products than there are."""
    import torch

    from bridge.frontend.torch.patches import replaced

    why = "its backward rounds 1/6 to float32"
    stand_ins = [(torch.nn.functional, "hardsigmoid", _hardsigmoid, why)]
    with replaced(stand_ins), full_precision(), torch_in_full_precision():
        yield


@contextlib.contextmanager
def _trained(module: torch.nn.Module, training: bool = True) -> Iterator[set[float]]:
    """The torch module in training mode (or not), without what cannot be compared.

    Gives the rates at which functional attention was called to drop, which tracing in evaluation mode cannot see.
    """
    import torch

    from bridge.frontend.torch.patches import DROPPING, replaced

    seen = set[float]()
    attention = attending(
        torch.nn.functional.scaled_dot_product_attention, lambda rate: seen.update({rate} - {0.0})
    )
    kinds = (torch.nn.RNNBase, torch.nn.MultiheadAttention)
    stand_ins = [
        # owner, attribute, what stands in, why
        *((torch._VF, name, lambda x, p, train: x, "random") for name in DROPPING),
        (torch.nn.functional, "rrelu", _rrelu, "random"),
        (torch.nn.functional, "scaled_dot_product_attention", attention, "random"),
        *((owner, "dropout", 0.0, "random") for owner in module.modules() if isinstance(owner, kinds)),
    ]
    with replaced(stand_ins), _exact():
        module.train(training)
        try:
            yield seen
        finally:
            module.eval()


def require_comparable(module: torch.nn.Module) -> None:
    """Raise `SourceError` where torch trains in a way that no layer of Keras does."""
    import torch

    norm = torch.nn.modules.instancenorm._InstanceNorm
    lookup = torch.nn.Embedding, torch.nn.EmbeddingBag
    _refuse(
        module,
        lambda layer: isinstance(layer, norm) and layer.track_running_stats,
        "an InstanceNorm that keeps running statistics trains with those of each instance, and Keras's layer with "
        "those of the batch",
    )
    _refuse(
        module,
        lambda layer: isinstance(layer, lookup) and layer.scale_grad_by_freq,
        "by scale_grad_by_freq the gradient of a row is divided by how often it is looked up, and Keras's layer does "
        "not",
    )


def _refuse(module: torch.nn.Module, differs: Callable[[object], bool], why: str) -> None:
    paths = [path or type(layer).__name__ for path, layer in module.named_modules() if differs(layer)]
    if paths:
        raise SourceError(
            f"training differs at {', '.join(paths)}: {why}; convert without Verify(training=True)"
        )


class TorchSide:
    """A copy of the module that is stepped with plain SGD, or by `optimizer`."""

    optimizer: torch.optim.Optimizer | None = None

    def __init__(self, reference: Torch, shaken: int | None = None):
        """With a seed for `shaken`, what torch rounds is off by its last bits in the steps."""
        import torch

        self._torch, self.reference, self.shaken = torch, reference, shaken
        self.module = reference.module
        self.training = True
        self.dropped: set[float] = set()
        self.first: ByName = {}  # the gradients of the first step
        self.normalised: Batches = {}  # in the last step

    def start(self, state: ByName, training: bool) -> None:
        """Begin with the parameters `state`, in training mode or not."""
        self.module.load_state_dict({name: tensor_of(value) for name, value in state.items()})
        self.training = training

    def check_deterministic(self, inputs: Arrays) -> bool:
        """Whether training mode gives the same twice; where it does not, go on in evaluation mode."""
        state = copy.deepcopy(self.module.state_dict())
        with _trained(self.module) as self.dropped, self._torch.no_grad():
            first, *others = (self.reference.outputs(inputs) for _ in range(RUNS))
        self.module.load_state_dict(state)
        self.training = all(self._torch.equal(a, b) for y in others for a, b in zip(first, y, strict=True))
        return self.training

    def state(self) -> ByName:
        return {name: array_of(value).copy() for name, value in self.module.state_dict().items()}

    def held(self, weights: WeightMap) -> list[np.ndarray]:
        """What the variables of `weights` would hold, were they made of the module as it is now."""
        state = self.state()
        return [np.array(entry.recipe.push(state)) for entry in weights]

    def step(self, inputs: Arrays, factors: Factors) -> ByName:
        """One step; gives the gradients by name (zeros for parameters the loss does not see)."""
        torch = self._torch
        self.module.zero_grad(set_to_none=True)
        with (
            _trained(self.module, self.training), torch.enable_grad(), self._rounding(),
            batch_norm_inputs(self.module) as self.normalised,
        ):  # fmt: skip
            outputs = self.reference.outputs(inputs)
            loss: Any = sum(
                (y * (1 + y / 2) * tensor_of(r).to(y.device)).sum()
                for y, r in zip(outputs, factors, strict=True)
                if r is not None
            )
            if getattr(loss, "requires_grad", False):  # no parameter takes part otherwise
                loss.backward()
        gradients = {}
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                if parameter.requires_grad:
                    gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                    gradient = gradient.to_dense() if gradient.is_sparse else gradient
                    gradients[name] = array_of(gradient).copy()
                    if self.optimizer is None:
                        parameter.sub_(RATE * gradient)
        if self.optimizer is not None:
            self.optimizer.step()
        self.first = self.first or gradients
        return gradients

    def _rounding(self) -> contextlib.AbstractContextManager[object]:
        from bridge.verification.training.shaken import Shaken

        return contextlib.nullcontext() if self.shaken is None else Shaken(self.shaken)


class _WeightedSum(keras.losses.Loss):
    """sum(r * (y + y**2 / 2)), in the dtype of y."""

    def __init__(self, dtype: str):
        super().__init__(reduction="sum", dtype=dtype, name="weighted")

    def call(self, factor: keras.KerasTensor, output: keras.KerasTensor) -> keras.KerasTensor:
        return factor * output * (1 + output / 2)


class Recording(keras.optimizers.SGD):
    """SGD that keeps the gradient of every variable: read off a step, it would have no more digits than the weight."""

    def apply(
        self,
        grads: Sequence[keras.KerasTensor | None],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """A variable that has no gradient has one of zeros: Keras refuses a model in which none has one."""
        if trainable_variables is not None:
            pairs = zip(grads, trainable_variables, strict=True)
            grads = [
                ops.zeros_like(variable) if gradient is None else gradient for gradient, variable in pairs
            ]
        super().apply(grads, trainable_variables)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        super().build(variables)
        self.gradients = [self.add_variable_from_reference(variable, "gradient") for variable in variables]

    def update_step(
        self, gradient: keras.KerasTensor, variable: keras.Variable, rate: keras.KerasTensor
    ) -> None:
        record = self.recorded(variable)
        self.assign(record, ops.zeros(record.shape, record.dtype))
        self.assign_add(record, gradient)  # which may be rows of it, some of them twice
        super().update_step(gradient, variable, rate)

    def recorded(self, variable: object) -> keras.Variable:
        return self.gradients[place_of(variable, self)]


class KerasSide:
    """The converted model under SGD, whatever the backend, or under another optimizer, with which it is `run`."""

    def __init__(
        self,
        built: Trainable,
        dtype: str,
        training: bool = True,
        optimizer: keras.optimizers.Optimizer | None = None,
    ):
        self.weights, self.optimizer = built.weights, Recording(RATE)
        self.floats = [i for i, y in enumerate(built.model.outputs) if "float" in y.dtype]
        outputs = [built.model.outputs[i] for i in self.floats]
        self.model = keras.Model(built.model.inputs, outputs)
        if not training:
            given = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in self.model.inputs]
            self.model = keras.Model(given, self.model(given, training=False))
        self.model.compile(
            optimizer or self.optimizer,
            loss=[_WeightedSum(dtype) for _ in outputs],
            jit_compile=compiles_soon(),
        )

    def held(self, weights: WeightMap) -> list[np.ndarray]:
        """What the variables of `weights`, its own, hold."""
        return [np.array(entry.variable) for entry in weights]

    def run(self, inputs: Arrays, factors: Factors) -> None:
        """One step of the optimizer."""
        targets = [factors[i] for i in self.floats]
        with _exact(), _dropping_nothing(self.model), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The model does not have any trainable weights")
            warnings.filterwarnings("ignore", "Gradients do not exist")  # of what is detached
            self.model.train_on_batch(list(inputs), targets)

    def step(self, inputs: Arrays, factors: Factors) -> ByName:
        """One step of SGD; gives the gradients by torch's names, and steps as torch does where a variable is a sum."""
        before, gradients = self.held(self.weights), self._zeros()
        self.run(inputs, factors)
        for entry, old in zip(self.weights, before, strict=True):
            if entry.variable.trainable:
                gradient = to_numpy(self.optimizer.recorded(entry.variable))
                entry.recipe.adjoint(gradient.astype(gradients[entry.recipe.names[0]].dtype), gradients)
                if entry.weight.copies > 1:
                    moved = old - np.asarray(entry.variable)
                    entry.variable.assign(old - entry.weight.copies * moved)
        return gradients

    def _zeros(self) -> ByName:
        values = self.weights.state.values.items()
        return {name: np.zeros_like(value) for name, value in values if value.dtype.kind == "f"}


@contextlib.contextmanager
def _dropping_nothing(model: keras.Model) -> Iterator[None]:
    """Each dropout at a rate of zero."""
    layers = [layer for layer in all_layers(model) if isinstance(getattr(layer, "rate", None), float)]
    rates = [layer.rate for layer in layers]
    for layer in layers:
        layer.rate = 0.0
    try:
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate


def loss_factors(reference: Torch, inputs: Arrays, dtype: str, seed: int) -> Factors:
    """Random ones, for the outputs that `reference` gives."""
    rng = np.random.default_rng(2000 + seed)
    outputs = reference(inputs)
    return [
        rng.standard_normal(y.shape).astype(dtype) / max(y.size, 1) if y.dtype.kind == "f" else None
        for y in outputs
    ]
