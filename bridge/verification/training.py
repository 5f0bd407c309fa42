"""Training parity: the same gradients, and the same weights after the same steps.

Both sides run in training mode with dropout off, on the same batches and the same random scalar loss
`sum(r * (y + y**2 / 2))`. (A loss linear in `y` would not do: its gradient does not wait for the forward pass,
and TensorFlow's graphs may then step a weight before that pass has read it.) A gradient with respect to a Keras
variable goes back to torch's names through its recipe (`Recipe.adjoint`), so a parameter used twice collects both.

Two things differ by definition and are compared as what they are:

- torch steps on two biases where Keras has their sum, so one step of SGD moves torch's sum twice as far
  (`Weight.copies`); the step is compared on the sum, with that factor.
- torch's BatchNorm stores the unbiased running variance, Keras the biased one: the updates differ by n / (n - 1)
  for n values a channel.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np

from bridge.build import Built
from bridge.frontend.torch_module import Torch
from bridge.report import GRADIENTS, STATISTICS, STEPS, Check, Gradient
from bridge.report import LIMIT as LIMIT_SINGLE
from bridge.verification.dropout import check_dropout
from bridge.verification.inputs import Sampler, Sizes, sizes_text
from bridge.verification.metrics import Arrays, cast
from bridge.verification.outputs import FLOOR
from bridge.weights import WeightMap

LIMIT = 1e-8  # float64
LONG = 2.0**20  # a step so long that the weight's own digits do not blur the gradient read off it
RATE = 2.0**-7  # of SGD; exact in every precision, so that the optimiser cannot round it
RUNS = 8  # in training mode, to see whether it is random
SMALL = 1e-3  # a gradient that is smaller than this share of the largest is judged by that share


@dataclass(frozen=True)
class Parity:
    """What the comparison found."""

    checks: tuple[Check, ...]
    gradients: tuple[Gradient, ...]
    notes: tuple[str, ...]
    wanted: dict[str, np.ndarray]  # torch's gradients of the first step, by name


class Trainable(Protocol):
    """A Keras model with the map of its weights: a `Built` or a `Conversion`."""

    @property
    def model(self) -> keras.Model: ...

    @property
    def weights(self) -> WeightMap: ...


# --- the two sides -----------------------------------------------------------------------------------------------


def _rrelu(
    x: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Any:
    import torch

    return torch.nn.functional.leaky_relu(x, (lower + upper) / 2)


def _hardsigmoid(x: Any, inplace: bool = False) -> Any:
    import torch

    return torch.nn.functional.relu6(x + 3) / 6


def _exact() -> contextlib.AbstractContextManager[None]:
    """torch without the functions that round in double precision, be it under Keras."""
    import torch

    from bridge.frontend.torch_patches import replaced

    why = "its backward rounds 1/6 to float32"
    return replaced([(torch.nn.functional, "hardsigmoid", _hardsigmoid, why)])


@contextlib.contextmanager
def _trained(module: Any, training: bool = True) -> Iterator[set[float]]:
    """The torch module in training mode (or not), without what cannot be compared.

    Gives the rates at which functional attention was called to drop, which tracing in evaluation mode cannot see.
    """
    import torch

    from bridge.frontend.torch_patches import DROPPING, replaced

    attend, seen = torch.nn.functional.scaled_dot_product_attention, set[float]()

    def attention(
        q: Any, k: Any, v: Any, mask: Any = None, dropout_p: float = 0.0, *rest: Any, **options: Any
    ) -> Any:
        seen.update({dropout_p} - {0.0})
        return attend(q, k, v, options.pop("attn_mask", mask), 0.0, *rest, **options)

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


class TorchSide:
    """A copy of the module that is stepped with plain SGD."""

    def __init__(self, witness: Torch):
        import torch

        self._torch, self.witness = torch, witness
        self.module = witness.module
        self.training = True
        self.dropped: set[float] = set()

    def settle(self, inputs: Arrays) -> bool:
        """Whether training mode gives the same twice; where it does not, go on in evaluation mode."""
        state = copy.deepcopy(self.module.state_dict())
        with _trained(self.module) as self.dropped, self._torch.no_grad():
            first, *others = (self.witness.outputs(inputs) for _ in range(RUNS))
        self.module.load_state_dict(state)
        self.training = all(self._torch.equal(a, b) for y in others for a, b in zip(first, y, strict=True))
        return self.training

    def state(self) -> dict[str, np.ndarray]:
        return {name: value.detach().cpu().numpy().copy() for name, value in self.module.state_dict().items()}

    def step(
        self, inputs: Arrays, factors: Sequence[np.ndarray | None], rate: float
    ) -> dict[str, np.ndarray]:
        """One step; gives the gradients by name (zeros for parameters the loss does not see)."""
        torch = self._torch
        self.module.zero_grad(set_to_none=True)
        with _trained(self.module, self.training):
            outputs = self.witness.outputs(inputs)
            loss = sum(
                (y * (1 + y / 2) * torch.from_numpy(r)).sum()
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
                    gradients[name] = gradient.cpu().numpy().copy()
                    parameter -= rate * gradient
        return gradients


class _Weighted(keras.losses.Loss):
    """sum(r * (y + y**2 / 2)), in the dtype of y."""

    def __init__(self, dtype: str):
        super().__init__(reduction="sum", dtype=dtype, name="weighted")

    def call(self, factor: Any, output: Any) -> Any:
        return factor * output * (1 + output / 2)


class KerasSide:
    """The converted model under `keras.optimizers.SGD`, whatever the backend."""

    def __init__(self, built: Trainable, dtype: str, rate: float, training: bool = True):
        self.weights, self.rate = built.weights, rate
        self.floats = [i for i, y in enumerate(built.model.outputs) if "float" in y.dtype]
        outputs = [built.model.outputs[i] for i in self.floats]
        self.model = keras.Model(built.model.inputs, outputs)
        if not training:
            given = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in self.model.inputs]
            self.model = keras.Model(given, self.model(given, training=False))
        for layer in self.model._flatten_layers():
            if isinstance(getattr(layer, "rate", None), float):
                layer.rate = 0.0
        self.model.compile(
            keras.optimizers.SGD(rate),
            loss=[_Weighted(dtype) for _ in outputs],
            jit_compile=keras.backend.backend() == "jax",  # elsewhere compiling takes longer than six steps
        )

    def step(self, inputs: Arrays, factors: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """One step of SGD; gives each variable's gradient, and steps as torch does where a variable is a sum."""
        before = [np.asarray(entry.variable).copy() for entry in self.weights]
        targets = [factors[i] for i in self.floats]
        with _exact(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The model does not have any trainable weights")
            self.model.train_on_batch(list(inputs), targets)
        gradients = []
        for entry, old in zip(self.weights, before, strict=True):
            moved = old - np.asarray(entry.variable)
            gradients.append(moved / self.rate)
            if entry.variable.trainable and entry.weight.copies > 1:
                entry.variable.assign(old - entry.weight.copies * moved)
        return gradients


# --- comparing ---------------------------------------------------------------------------------------------------


def parity(built: Built, witness: Torch, sampler: Sampler, steps: int = 5) -> Parity:
    """Compare gradients in float64, and the parameters after each of `steps` steps, at the exported sizes.

    `built` and `witness` are in float64 and are trained: give copies.
    """
    dtype, limit = "float64", LIMIT
    theirs, sizes, notes = TorchSide(witness), sampler.exported(), []
    if not theirs.settle(witness.examples):
        notes.append(
            "forward is random in training mode beyond dropout: training was compared in evaluation mode"
        )
    if theirs.dropped:
        notes.append(
            f"scaled_dot_product_attention drops with p={', '.join(map(str, sorted(theirs.dropped)))} in training, "
            f"which the Keras model does not: evaluation mode does not show it (nn.MultiheadAttention's is kept)"
        )
    checks = [check] if (check := check_dropout(built, witness.copy(), witness.examples)) else []
    ours = KerasSide(built, dtype, RATE, theirs.training)
    first: dict[str, np.ndarray] = {}
    start = theirs.state()
    table: list[Gradient] = []
    for number in range(steps):
        inputs = cast(sampler.draw(sizes, 1000 + number), dtype)
        factors = _factors(witness, inputs, dtype, number)
        wanted = theirs.step(inputs, factors, RATE)
        got = _to_torch_names(ours, ours.step(inputs, factors), wanted)
        errors = gradient_errors(got, wanted)
        if not number:
            first = wanted
            table = [Gradient(name, error) for name, error in sorted(errors.items())]
            checks.append(
                Check(GRADIENTS, sizes_text(sizes), max(errors.values(), default=0.0), limit, dtype)
            )
            statistics, said = _statistics(ours, theirs, start, sizes, limit, dtype)
            checks, notes = checks + statistics, notes + said
        after = theirs.state()
        checks.append(Check(STEPS, f"after step {number + 1}", _farthest(ours, after), limit, dtype))
    summed = sorted({name for e in ours.weights if e.weight.copies > 1 for name in e.recipe.names})
    if summed:
        notes.append(
            f"{len(summed)} parameters are summed in Keras (two biases, one variable): a step of SGD moves their sum "
            f"twice as far in torch, and was compared with that factor"
        )
    return Parity(tuple(checks), tuple(table), tuple(notes), first)


def exact_gradients(witness: Torch, sampler: Sampler) -> dict[str, np.ndarray]:
    """torch's gradients by name, of the inputs and the loss that `single_precision` takes. `witness` is in float64."""
    side, inputs = TorchSide(witness), sampler.draw(sampler.exported(), 1000)
    side.settle(inputs)
    return side.step(inputs, _factors(witness, inputs, "float64", 0), RATE)


def single_precision(
    built: Trainable, witness: Torch, sampler: Sampler, wanted: dict[str, np.ndarray]
) -> Check:
    """Gradients in float32 against the exact ones, `wanted`: Keras's rounding may be a small multiple of torch's."""
    dtype = "float32"
    inputs = sampler.draw(sampler.exported(), 1000)
    factors = _factors(witness, inputs, dtype, 0)
    torch_side = TorchSide(witness)
    training = torch_side.settle(inputs)
    theirs = torch_side.step(inputs, factors, RATE)
    side = KerasSide(built, dtype, LONG, training)
    ours = _to_torch_names(side, side.step(inputs, factors), wanted)
    floor = max(gradient_errors(theirs, wanted).values(), default=0.0)
    error = max(gradient_errors(ours, wanted).values(), default=0.0)
    return Check(GRADIENTS, sizes_text(sampler.exported()), error, max(LIMIT_SINGLE, FLOOR * floor), dtype)


def _factors(witness: Torch, inputs: Arrays, dtype: str, seed: int) -> list[np.ndarray | None]:
    """The random weights of the loss, one array for each output of floating point."""
    rng = np.random.default_rng(2000 + seed)
    outputs = witness(inputs)
    return [
        rng.standard_normal(y.shape).astype(dtype) / max(y.size, 1) if y.dtype.kind == "f" else None
        for y in outputs
    ]


def _to_torch_names(
    side: KerasSide, gradients: list[np.ndarray], wanted: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Gradients of the variables -> gradients of torch's parameters, through the recipes."""
    into = {
        name: np.zeros_like(value)
        for name, value in side.weights.source.values.items()
        if value.dtype.kind == "f"
    }
    for entry, gradient in zip(side.weights, gradients, strict=True):
        if entry.variable.trainable:
            entry.recipe.adjoint(gradient.astype(into[entry.recipe.names[0]].dtype), into)
    return {name: into[name] for name in wanted}


def gradient_errors(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> dict[str, float]:
    """The relative error of each gradient; those that are (nearly) zero are measured against the largest of all."""
    largest = max((float(np.abs(g).max()) for g in want.values() if g.size), default=0.0)
    return {
        name: float(np.abs(got[name] - g).max() / max(float(np.abs(g).max()), SMALL * largest, 1e-30))
        for name, g in want.items()
        if g.size
    }


def _farthest(side: KerasSide, state: dict[str, np.ndarray]) -> float:
    """The largest error of a trained variable, relative as in `gradient_errors`: a bias that has no gradient (that of
    keys, in attention) is rounding alone where it starts from zero."""
    entries = {str(i): e for i, e in enumerate(side.weights) if e.variable.trainable}
    got = {i: np.asarray(e.variable) for i, e in entries.items()}
    want = {i: e.recipe.push(state) for i, e in entries.items()}
    return max(gradient_errors(got, want).values(), default=0.0)


def _statistics(
    ours: KerasSide, theirs: TorchSide, start: dict[str, np.ndarray], sizes: Sizes, limit: float, dtype: str
) -> tuple[list[Check], list[str]]:
    """BatchNorm's running statistics after one step: equal means, variances that differ by n / (n - 1)."""
    state, worst, notes, counts = theirs.state(), 0.0, [], dict[str, int]()
    statistics = ("running_mean", "running_var")
    moved = [e for e in ours.weights if theirs.training and e.recipe.names[0].endswith(statistics)]
    for entry in moved:
        name = entry.recipe.names[0]
        want, old, got = entry.recipe.push(state), entry.recipe.push(start), np.asarray(entry.variable)
        if name.endswith("running_mean"):
            worst = max(worst, float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30)))
            continue
        batch = theirs.module.get_submodule(name.rpartition(".")[0])
        keep = 1 - (batch.momentum if batch.momentum is not None else 0.0)
        biased, unbiased = got - keep * old, want - keep * old
        ratio = float(np.sum(unbiased) / np.sum(biased))
        worst = max(worst, float(np.abs(unbiased - ratio * biased).max() / np.abs(unbiased).max()))
        counts[name] = round(ratio / (ratio - 1)) if ratio > 1 else 0
    if counts:
        few = min(counts, key=counts.__getitem__)
        notes.append(
            f"{len(counts)} running variances: torch stores the unbiased variance, Keras the biased one; an update "
            f"differs by n / (n - 1) for n values a channel, at these sizes n = {counts[few]} ({few}) to "
            f"{max(counts.values())}"
        )
    text = f"{sizes_text(sizes)}, after one step"
    return ([Check(STATISTICS, text, worst, limit, dtype)] if moved else []), notes
