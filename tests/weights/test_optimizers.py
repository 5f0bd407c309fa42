"""Optimizers of torch go on in Keras: the same steps, settings and schedules, there and back, or a refusal that says why."""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import continuing
import keras
import numpy as np
import pytest
import torch
from prepared import MODELS, VISION, make
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, RMSprop, lr_scheduler

import bridge
from bridge.keras_compat import double_precision
from bridge.optimizers.schedules import CosineAnnealing
from bridge.weights.entry import Entry

torch.set_num_threads(1)


class Small(nn.Module):
    """A variable that is the sum of two parameters, one that is a row of one, and plain ones."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(3, 4, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.rnn(x)[0])
        return self.head(self.attention(x, x, x, need_weights=False)[0])


class Plain(nn.Module):
    """Every variable is one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


@functools.cache
def converted(
    kind: type[nn.Module], dtype: torch.dtype = torch.float64
) -> tuple[bridge.Conversion, nn.Module]:
    torch.manual_seed(0)
    module = kind().to(dtype).eval()
    with double_precision():
        return bridge.convert(module, (torch.randn(2, 5, 3, dtype=dtype),), verify=False), module


def started(kind: type[nn.Module]) -> tuple[bridge.Conversion, nn.Module]:
    """Both as they were made."""
    result, module = converted(kind)
    result.weights.load_torch(module.state_dict())
    return result, copy.deepcopy(module)


def gradients(entries: list[Entry], module: nn.Module, seed: int) -> list[np.ndarray]:
    """Random ones of Keras's variables, and what they are of torch's parameters, which get them."""
    rng = np.random.default_rng(seed)
    found = {name: np.zeros(tuple(p.shape)) for name, p in module.named_parameters()}
    drawn = [rng.standard_normal(entry.recipe.shape) for entry in entries]
    for entry, gradient in zip(entries, drawn, strict=True):
        entry.recipe.adjoint(gradient, found)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parameter.grad = torch.from_numpy(found[name])
    return drawn


def step(result: bridge.Conversion, ours: Any, theirs: list[Any], module: nn.Module, seed: int) -> None:
    """One of Keras's optimizer and of torch's, where there are any, by the same gradients."""
    entries = [entry for entry in result.weights if entry.variable.trainable]
    drawn = gradients(entries, module, seed)
    if ours is not None:
        values = [keras.ops.convert_to_tensor(gradient) for gradient in drawn]
        ours.apply(values, [entry.variable for entry in entries])
    for one in theirs:
        one.step()


def error(result: bridge.Conversion, module: nn.Module) -> float:
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    return max(float(np.abs(e.recipe.push(state) - np.asarray(e.variable)).max()) for e in result.weights)


def from_its_config(optimizer: Any, result: bridge.Conversion) -> Any:
    """What Keras makes of an optimizer's config and variables, as in a file."""
    made = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    made.build([entry.variable for entry in result.weights if entry.variable.trainable])
    for variable, value in zip(made.variables, optimizer.variables, strict=True):
        variable.assign(value)
    return made


def _groups(module: nn.Module) -> list[dict[str, Any]]:
    """Biases without decay and at another rate, and what stands first in the second group."""
    biases = [p for name, p in module.named_parameters() if "bias" in name]
    others = [p for name, p in module.named_parameters() if "bias" not in name]
    return [{"params": others}, {"params": biases, "weight_decay": 0.0, "lr": 0.003}]


def _half(module: nn.Module) -> list[nn.Parameter]:
    """Not those of the head, which torch leaves as they are, nor one of two biases that are summed."""
    left = ("head.weight", "head.bias", "rnn.bias_ih_l0")
    return [p for name, p in module.named_parameters() if name not in left]


def _of(kind: Any, which: Any = nn.Module.parameters, **settings: Any) -> Callable[[nn.Module], Any]:
    return lambda module: kind(list(which(module)), lr=0.01, **settings)


STEPPED = {  # the module, torch's optimizer, and the class in Keras
    "plain SGD": (Plain, _of(SGD), "SGD"),
    "SGD with decay": (Plain, _of(SGD, weight_decay=0.125), "SGD"),
    "SGD with decay that Keras rounds": (Plain, _of(SGD, weight_decay=0.1), "TorchSGD"),
    "SGD with momentum": (Plain, _of(SGD, momentum=0.875), "SGD"),
    "Nesterov": (Plain, _of(SGD, momentum=0.875, nesterov=True), "SGD"),
    "momentum that Keras rounds": (Plain, _of(SGD, momentum=0.9), "TorchSGD"),
    "momentum and decay": (Plain, _of(SGD, momentum=0.875, weight_decay=0.125), "TorchSGD"),
    "dampening": (Plain, _of(SGD, momentum=0.875, dampening=0.25), "TorchSGD"),
    "SGD upwards": (Plain, _of(SGD, maximize=True), "TorchSGD"),
    "SGD of sums": (Small, _of(SGD), "TorchSGD"),
    "all of SGD, of sums": (Small, _of(SGD, momentum=0.9, nesterov=True, weight_decay=0.1), "TorchSGD"),
    "groups of SGD": (Small, _of(SGD, _groups, momentum=0.9, dampening=0.3, weight_decay=0.1), "TorchSGD"),
    "Adam": (Small, _of(Adam), "TorchAdam"),
    "Adam with decay": (Small, _of(Adam, weight_decay=0.1), "TorchAdam"),
    "Adam with AMSGrad, upwards": (Small, _of(Adam, amsgrad=True, maximize=True), "TorchAdam"),
    "Adam without momentum": (Small, _of(Adam, betas=(0.0, 0.9), eps=1e-3), "TorchAdam"),
    "fused Adam": (Plain, _of(Adam, fused=True), "TorchAdam"),
    "AdamW": (Small, _of(AdamW, weight_decay=0.1, betas=(0.8, 0.95)), "TorchAdam"),
    "groups of AdamW": (Small, _of(AdamW, _groups, weight_decay=0.1), "TorchAdam"),
    "a part of the parameters": (Small, _of(Adam, _half, weight_decay=0.1), "TorchAdam"),
    "RMSprop": (Small, _of(RMSprop), "TorchRMSprop"),
    "all of RMSprop": (
        Small,
        _of(RMSprop, momentum=0.5, centered=True, weight_decay=0.1, alpha=0.9),
        "TorchRMSprop",
    ),
}


FRESH = ["dampening", "groups of SGD", "groups of AdamW", "all of RMSprop"]  # before their first step, too


@pytest.mark.parametrize(
    ("name", "before"), [*((name, 3) for name in STEPPED), *((name, 0) for name in FRESH)]
)
def test_ten_steps_are_torchs_and_ten_more_back_in_torch(name: str, before: int) -> None:
    kind, of, expected = STEPPED[name]
    result, module = started(kind)
    theirs = of(module)
    with double_precision():
        for seed in range(before):
            step(result, None, [theirs], module, seed)
        result.weights.load_torch(module.state_dict())
        ours = result.weights.optimizer_from_torch(theirs, module=module)
        assert type(ours).__name__ == expected
        for seed in range(10):
            step(result, ours, [theirs], module, 100 + seed)
            ours = from_its_config(ours, result) if seed == 4 else ours
        assert error(result, module) < 1e-12
        again = copy.deepcopy(module)
        again.load_state_dict(result.weights.to_torch(ours))
        back = of(again)
        for group in back.param_groups:
            group["lr"] = 0.5  # what Keras's says holds
        result.weights.optimizer_to_torch(ours, back, module=again)
        for seed in range(10):
            for one, optimizer in ((module, theirs), (again, back)):
                step(result, None, [optimizer], one, 200 + seed)
    for (name, one), other in zip(module.named_parameters(), again.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12), name


def test_a_parameter_that_began_later_is_corrected_by_its_own_count() -> None:
    result, module = started(Small)
    theirs = Adam(module.parameters(), lr=0.01)
    module.head.requires_grad_(False)
    with double_precision():
        for seed in range(3):
            step(result, None, [theirs], module, seed)
        module.head.requires_grad_(True)
        step(result, None, [theirs], module, 3)
        result.weights.load_torch(module.state_dict())
        ours = result.weights.optimizer_from_torch(theirs)
        for seed in range(10):
            step(result, ours, [theirs], module, 100 + seed)
        assert error(result, module) < 1e-12
        back = Adam(copy.deepcopy(module).parameters())
        result.weights.optimizer_to_torch(ours, back, module=None)
    counts = [int(state["step"]) for state in back.state.values()]
    assert counts == [int(theirs.state[p]["step"]) for p in module.parameters()]
    assert len(set(counts)) == 2


def test_names_come_from_the_optimizer_the_module_or_the_order() -> None:
    result, module = started(Small)
    weights, turned = result.weights, list(module.named_parameters())[::-1]
    with double_precision():
        weights.optimizer_from_torch(Adam(module.parameters()))
        weights.optimizer_from_torch(Adam(turned))
        weights.optimizer_from_torch(Adam([p for _, p in turned]), module=module)
        with pytest.raises(bridge.WeightsError, match="give the module too"):
            weights.optimizer_from_torch(Adam([p for _, p in turned]))
        with torch.no_grad():
            module.head.weight.add_(1)
        with pytest.raises(bridge.WeightsError, match="with their numbers"):
            weights.optimizer_from_torch(Adam(module.parameters()))


# --- what does not fit --------------------------------------------------------------------------------------


class Mine(SGD):
    """Of somebody's own."""


def _unlike(module: nn.Module) -> list[dict[str, Any]]:
    first, *others = module.parameters()
    return [{"params": [first], "betas": (0.5, 0.5)}, {"params": others}]


def _with_another(module: nn.Module) -> list[nn.Parameter]:
    return [*module.parameters(), nn.Parameter(torch.zeros(7, 7))]


REFUSED = {  # and what is said
    "another optimizer": (
        _of(torch.optim.Adagrad),
        "Adagrad is none of torch.optim's SGD, Adam, AdamW, RMSprop",
    ),
    "one's own": (_of(Mine), "Mine is none of torch.optim's"),
    "steps that gradients pass": (_of(Adam, differentiable=True), "differentiable=True"),
    "groups of other betas": (_of(Adam, _unlike), "its groups differ in betas"),
    "a parameter of another module": (_of(Adam, _with_another), r"not of the module: one of shape \(7, 7\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_keras_cannot_step_is_refused_by_name(name: str) -> None:
    of, said = REFUSED[name]
    result, module = started(Small)
    with pytest.raises(bridge.WeightsError, match=said):
        result.weights.optimizer_from_torch(of(module), module=module)


class Joined(nn.Module):
    """A kernel of two parameters, and one of a length and a direction."""

    def __init__(self) -> None:
        super().__init__()
        self.above, self.below = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(4, 3))
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.normed(nn.functional.linear(x, torch.cat([self.above, self.below])))


def test_all_variables_that_keras_cannot_step_are_named() -> None:
    result, module = started(Joined)
    others = [p for name, p in module.named_parameters() if name != "above"]
    theirs = SGD([{"params": [module.above]}, {"params": others, "lr": 0.5}])
    with pytest.raises(bridge.WeightsError) as refused:
        result.weights.optimizer_from_torch(theirs, module=module)
    lines = str(refused.value).splitlines()
    assert any("above, below in torch: one variable of parameters that" in line for line in lines)
    assert any(
        "normed.parametrizations.weight.original0" in line and "torch computes it" in line for line in lines
    )


def test_what_torch_trains_and_keras_does_not_is_named() -> None:
    result, module = started(Small)
    result.model.get_layer("head").trainable = False
    try:
        with pytest.raises(bridge.WeightsError, match="head.weight: torch trains it, and Keras has it fixed"):
            result.weights.optimizer_from_torch(Adam(module.parameters()))
    finally:
        result.model.get_layer("head").trainable = True


def test_what_does_not_fit_torch_changes_nothing() -> None:
    result, module = started(Small)
    with double_precision():
        ours = result.weights.optimizer_from_torch(Adam(module.parameters()))
        theirs = {
            "Keras's optimizer is Adam, and torch's is SGD": SGD(module.parameters()),
            "Keras's optimizer is Adam, and torch's is AdamW": AdamW(module.parameters()),
            "not of torch's: head.bias": Adam(list(module.parameters())[:-1]),
        }
        for said, into in theirs.items():
            before = copy.deepcopy(into.state_dict())
            with pytest.raises(bridge.WeightsError, match=said):
                result.weights.optimizer_to_torch(ours, into, module=module)
            assert into.state_dict() == before
        for other, said in {
            keras.optimizers.Adam(): "torch has no optimizer that steps as keras.*Adam does",
            keras.optimizers.SGD(momentum=0.5, weight_decay=0.1): "weight_decay beside a momentum",
            keras.optimizers.SGD(clipnorm=1.0): "SGD has clipnorm",
            keras.optimizers.SGD(): "was not built",
        }.items():
            with pytest.raises(bridge.WeightsError, match=said):
                result.weights.optimizer_to_torch(other, SGD(module.parameters()), module=module)


def test_a_model_with_other_variables_is_not_stepped() -> None:
    result, module = started(Plain)
    optimizer = result.weights.optimizer_from_torch(Adam(module.parameters()))
    with pytest.raises(ValueError, match="made for 4 trained variables, and the model has 1"):
        type(optimizer).from_config(optimizer.get_config()).build([result.model.trainable_variables[0]])


def test_a_later_process_takes_the_state_of_a_saved_optimizer_back(tmp_path: Path) -> None:
    result, module = started(Plain)
    theirs = Adam(module.parameters(), lr=0.01)
    with double_precision():
        step(result, None, [theirs], module, 0)
        ours = result.weights.optimizer_from_torch(theirs, module=module)
        result.model.compile(ours)
        result.save(tmp_path / "plain.keras")
        read = keras.saving.load_model(tmp_path / "plain.keras").optimizer
        back = Adam(module.parameters())
        bridge.load(tmp_path / "plain.keras").weights.optimizer_to_torch(read, back, module=module)
    assert [group | {"params": []} for group in back.param_groups] == [
        group | {"params": []} for group in theirs.param_groups
    ]
    for parameter, state in theirs.state.items():
        assert all(torch.equal(value, back.state[parameter][name]) for name, value in state.items())


# --- schedules ----------------------------------------------------------------------------------------------

schedules = keras.optimizers.schedules
SCHEDULES: dict[str, tuple[Callable[[Any], Any], int, type]] = {  # torch's, steps a call, Keras's
    "steps": (lambda o: lr_scheduler.StepLR(o, 4, 0.5), 1, schedules.ExponentialDecay),
    "steps of epochs": (lambda o: lr_scheduler.StepLR(o, 2, 0.5), 3, schedules.ExponentialDecay),
    "exponential": (lambda o: lr_scheduler.ExponentialLR(o, 0.9), 1, schedules.ExponentialDecay),
    "exponential of epochs": (lambda o: lr_scheduler.ExponentialLR(o, 0.9), 4, schedules.ExponentialDecay),
    "milestones": (lambda o: lr_scheduler.MultiStepLR(o, [2, 5, 5, 9], 0.5), 1, schedules.PiecewiseConstantDecay),
    "milestones of epochs": (lambda o: lr_scheduler.MultiStepLR(o, [2, 5], 0.5), 3, schedules.PiecewiseConstantDecay),
    "constant": (lambda o: lr_scheduler.ConstantLR(o, 0.25, 6), 1, schedules.PiecewiseConstantDecay),
    "linear": (lambda o: lr_scheduler.LinearLR(o, 0.25, 1.0, 8), 1, schedules.PolynomialDecay),
    "linear of epochs": (lambda o: lr_scheduler.LinearLR(o, 0.25, 1.0, 4), 3, schedules.PiecewiseConstantDecay),
    "polynomial": (lambda o: lr_scheduler.PolynomialLR(o, 20, 2.0), 1, schedules.PolynomialDecay),
    "cosine": (lambda o: lr_scheduler.CosineAnnealingLR(o, 8, 1e-3), 1, CosineAnnealing),
    "cosine of epochs": (lambda o: lr_scheduler.CosineAnnealingLR(o, 4), 3, CosineAnnealing),
    "restarts": (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 6, eta_min=1e-3), 1, schedules.CosineDecayRestarts),
}  # fmt: skip


def scheduled(of: Callable[[Any], Any], every: int, before: int) -> tuple[Any, Any, Any, Callable[[], None]]:
    """A conversion, torch's optimizer and scheduler behind so many steps, and what steps torch once more."""
    result, module = started(Plain)
    theirs = SGD(module.parameters(), lr=0.0625)
    scheduler, taken = of(theirs), [0]

    def go() -> None:
        theirs.step()
        taken[0] += 1
        if taken[0] % every == 0:
            scheduler.step()

    for _ in range(before):
        go()
    return result, theirs, scheduler, go


@pytest.mark.parametrize("before", [0, 12])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_gives_torchs_rate_at_every_step(name: str, before: int) -> None:
    of, every, expected = SCHEDULES[name]
    result, theirs, scheduler, go = scheduled(of, every, before)
    made = result.weights.optimizer_from_torch(theirs, scheduler, steps_per_call=every)
    assert type(made.get_config()["learning_rate"]) is dict
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    assert isinstance(again._learning_rate, expected)
    for taken in range(30):
        made.iterations.assign(before + taken)
        assert float(np.asarray(made.learning_rate)) == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-5)
        go()


def test_momentum_under_a_schedule_steps_as_torchs() -> None:
    result, module = started(Small)
    theirs = SGD(_groups(module), lr=0.0625, momentum=0.9)
    theirs.param_groups[1]["lr"] = theirs.param_groups[1]["initial_lr"] = 0.125
    scheduler = lr_scheduler.StepLR(theirs, 4, 0.5)
    with double_precision():
        ours = result.weights.optimizer_from_torch(theirs, scheduler, module=module)
        for seed in range(10):
            step(result, ours, [theirs, scheduler], module, seed)
        assert error(result, module) < 1e-12


SCHEDULERS_REFUSED: dict[str, tuple[Callable[[Any], Any], int, str]] = {
    "a function": (lambda o: lr_scheduler.LambdaLR(o, lambda k: 0.5), 1, "no schedule that is torch's LambdaLR"),
    "a plateau": (lambda o: lr_scheduler.ReduceLROnPlateau(o), 1, "torch's ReduceLROnPlateau.*LearningRateScheduler"),
    "one cycle": (lambda o: lr_scheduler.OneCycleLR(o, 0.1, 30), 1, "torch's OneCycleLR"),
    "longer restarts": (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4, 2), 1, "with T_mult=1"),
    "another pace": (lambda o: lr_scheduler.StepLR(o, 2, 0.5), 5, "how many steps one call of it stands for"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULERS_REFUSED)
def test_a_scheduler_that_keras_has_not_is_refused_by_name(name: str) -> None:
    of, every, said = SCHEDULERS_REFUSED[name]
    result, module = started(Plain)
    theirs = SGD(module.parameters(), lr=0.0625, momentum=0.5)
    scheduler = of(theirs)
    if every > 1:
        theirs.param_groups[0]["lr"] = 0.5
    with pytest.raises(bridge.WeightsError, match=said):
        result.weights.optimizer_from_torch(theirs, scheduler, steps_per_call=every)


# --- whole networks -----------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, continuing.Make] = {
    "AdamW": lambda m: AdamW(m.parameters(), lr=1e-3, weight_decay=0.1),
    "SGD": lambda m: SGD(m.parameters(), lr=2.0**-7, momentum=0.9, weight_decay=0.01),
}
FIXED = ["vision.shufflenet"]  # free sizes that hold only where a proof tries them
UNSAVED = [
    "vision.vit"
]  # once it is read of a file, TensorFlow rounds the scale of Keras's attention in float64
SHORT = ["conv_gru", "digit_images", "digits", "language_model"]  # LSTM, GRU, BatchNorm, attention
NETWORKS = [
    *((name, "AdamW") for name in SHORT),
    *(pytest.param(name, "AdamW", marks=pytest.mark.slow) for name in MODELS + VISION if name not in SHORT),
    *(pytest.param(name, "SGD", marks=pytest.mark.slow) for name in SHORT),
]


@pytest.mark.parametrize(("name", "kind"), NETWORKS)
def test_a_network_goes_on_in_keras_and_back_in_torch(name: str, kind: str, tmp_path: Path) -> None:
    module, args, shapes = make(name)
    network = module, args, {} if name in FIXED else shapes
    path = None if name in UNSAVED else tmp_path / "halfway.keras"
    found = continuing.errors(network, OPTIMIZERS[kind], path)
    assert max(found.values()) < 1e-10, found


ELSEWHERE = """
import sys, pathlib, torch
sys.path[:0] = sys.argv[1:]
import continuing, test_optimizers, keras
module, args = test_optimizers.Small(), (torch.randn(2, 5, 3),)
found = continuing.errors((module.eval(), args, None), test_optimizers.OPTIMIZERS["AdamW"])
assert max(found.values()) < 1e-10, found
test_optimizers.test_ten_steps_are_torchs_and_ten_more_back_in_torch("Nesterov", 3)
print("goes on with", keras.backend.backend())
"""


@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.slow)])
def test_training_goes_on_with_every_backend(backend: str) -> None:
    folders = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ELSEWHERE, *folders],
        capture_output=True, text=True, env=os.environ | {"KERAS_BACKEND": backend},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == f"goes on with {backend}"
