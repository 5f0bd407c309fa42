"""Weight norm and spectral norm, both ways: what is untouched comes back bit for bit, what was trained as parameters
that give it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

import bridge
from bridge.errors import WeightsError
from bridge.verification.runners import keras_call
from bridge.weights.recipes import Recipe
from bridge.weights.soundness import require_sound
from bridge.weights.weight import State, Weight

torch.set_num_threads(1)

NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight norm": lambda layer: parametrizations.weight_norm(layer, dim=1),
    "weight norm by hooks": weight_norm,
    "weight norm of the whole": lambda layer: parametrizations.weight_norm(layer, dim=None),
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm by hooks": spectral_norm,
}


def network(norm: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = [
        NORMS[norm](nn.ConvTranspose1d(4, 6, 3)),
        nn.ReLU(),
        NORMS[norm](nn.Conv1d(6, 3, 2)),
        nn.Conv1d(3, 2, 1),
    ]
    module = nn.Sequential(*layers)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_goes_back_and_forth(norm: str, tmp_path) -> None:
    module, x = network(norm, 0), torch.randn(2, 4, 5)
    result = bridge.convert(module, x)
    assert {row.layer for row in result.report.rows} == {"Conv1DTranspose", "ReLU", "Conv1D"}
    assert sum("Keras trains the weight itself" in note for note in result.report.notes) == 2
    state = result.weights.to_torch()
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())

    result.weights.load_torch(network(norm, 1).state_dict())  # of another one
    with torch.no_grad():
        wanted = network(norm, 1)(x).numpy()
    np.testing.assert_allclose(keras_call(result.model)([x.numpy()])[0], wanted, rtol=1e-4, atol=1e-6)

    rng = np.random.default_rng(0)
    for variable in result.model.trainable_variables:  # as if trained
        variable.assign(rng.standard_normal(variable.shape))
    trained = bridge.load(result.save(tmp_path / "m.keras"))
    module.load_state_dict(trained.weights.to_torch())
    with torch.no_grad():
        got = module.eval()(x).numpy()
    np.testing.assert_allclose(got, keras_call(trained.model)([x.numpy()])[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_norm_of_halves_is_taken_in_single_precision(norm: Callable[[nn.Module], nn.Module]) -> None:
    """The squares of small ones are none, and their sums have few digits."""
    torch.manual_seed(0)
    module = norm(nn.Linear(8, 4, bias=False))
    with torch.no_grad():
        for parameter in module.parametrizations.weight.parameters():
            parameter.mul_(1e-3)
    result = bridge.convert(module.half().eval(), torch.randn(2, 8).half())
    assert result.report.verified
    assert all(
        torch.equal(value, result.weights.to_torch()[name]) for name, value in module.state_dict().items()
    )


def test_a_direction_without_its_length_stays_in_the_graph() -> None:
    """A variable trains as a whole."""
    module = parametrizations.weight_norm(nn.Linear(4, 3))
    module.parametrizations.weight.original1.requires_grad_(False)
    result = bridge.convert(module.eval(), torch.randn(2, 4), verify=bridge.Verify(training=True))
    assert result.report.trainable == result.report.source_parameters == 6


def random(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@st.composite
def norms(draw: st.DrawFn) -> Weight:
    shape = draw(st.sampled_from([(3, 4), (2, 3, 4), (4, 1, 2, 3)]))
    axis = draw(st.sampled_from([*range(len(shape)), None]))
    if draw(st.booleans()) and axis is not None:
        sides = shape[axis], int(np.prod(shape)) // shape[axis]
        state = State({"w": random(shape, 0), "u": random(sides[:1], 1), "v": random(sides[1:], 2)})
        w, u, v = (Weight.param(name, state) for name in state.values)
        weight = w.spectral_norm(u, v, axis)
    else:
        length = () if axis is None else tuple(n if k == axis else 1 for k, n in enumerate(shape))
        state = State({"v": random(shape, 0), "g": np.abs(random(length, 1))})
        v, g = (Weight.param(name, state) for name in state.values)
        weight = g.along(v)
    return weight.transpose(*draw(st.permutations(range(len(shape))))) if draw(st.booleans()) else weight


@given(norms(), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_the_laws_of_norms(weight: Weight, seed: int) -> None:
    recipe, state = weight.recipe, {name: np.array(value) for name, value in weight.state.values.items()}
    require_sound(recipe, {name: value.shape for name, value in state.items()})
    assert Recipe.from_json(recipe.to_json()) == recipe
    recipe.pull(recipe.push(state), state)
    for name, value in weight.state.values.items():
        np.testing.assert_array_equal(state[name], value)
    changed = random(weight.dims, 100 + seed)
    if seed % 3 == 0 and len(changed) > 1:
        changed[0] = 0
    recipe.pull(changed, state)
    np.testing.assert_allclose(recipe.push(state), changed, rtol=1e-4, atol=1e-5)


def test_a_row_that_is_untouched_keeps_its_parameters() -> None:
    state = State({"v": random((3, 4), 0), "g": np.abs(random((3, 1), 1))})
    recipe = Weight.param("g", state).along(Weight.param("v", state)).recipe
    back, value = {name: np.array(x) for name, x in state.values.items()}, recipe.push(state.values).copy()
    value[1] *= 2
    recipe.pull(value, back)
    for name in back:
        np.testing.assert_array_equal(back[name][[0, 2]], state.values[name][[0, 2]])


def test_a_matrix_of_no_norm_does_not_go_back() -> None:
    state = State({"w": random((3, 4), 0), "u": random((3,), 1), "v": random((4,), 2)})
    w, u, v = (Weight.param(name, state) for name in state.values)
    with pytest.raises(WeightsError, match=r"w / \(u w v\) .* has lost its first direction"):
        w.spectral_norm(u, v, 0).recipe.pull(np.zeros((3, 4), np.float32), dict(state.values))
