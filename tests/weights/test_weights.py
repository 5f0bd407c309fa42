"""The two laws of recipes, over random compositions of their steps, and what a map refuses."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import WeightsError
from bridge.weights.entry import Entry
from bridge.weights.memory import copy_in_blocks
from bridge.weights.recipes import Param, Recipe
from bridge.weights.weight import State, Weight
from bridge.weights.weight_map import WeightMap, detach_from_source, split_by_parameters

SHAPES = [(6,), (4, 6), (2, 3, 4), (4, 1, 2, 3)]


def fresh(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@st.composite
def weights(draw: st.DrawFn, depth: int = 4) -> Weight:
    """A weight over one to three parameters, through up to `depth` random steps; every parameter is used once."""
    shape = draw(st.sampled_from(SHAPES))
    names = draw(st.integers(1, 3))
    source = State({f"p{i}": fresh(shape, i) for i in range(names)})
    weight = Weight.concat(
        [Weight.param(name, source) for name in source.values], draw(st.integers(0, len(shape) - 1))
    )
    for _ in range(draw(st.integers(0, depth))):
        rank = len(weight.dims)
        match draw(st.sampled_from(["transpose", "reshape", "blocks", "unsqueeze"])):
            case "transpose":
                weight = weight.transpose(*draw(st.permutations(range(rank))))
            case "reshape" if rank > 1:
                weight = weight.reshape(-1, *weight.dims[2:])
            case "blocks":
                axis = draw(st.integers(0, rank - 1))
                divisors = [n for n in (1, 2, 3, 4) if weight.dims[axis] % n == 0]
                weight = weight.blocks(draw(st.permutations(range(draw(st.sampled_from(divisors))))), axis)
            case "unsqueeze" if rank < 5:
                weight = weight.reshape(1, *weight.dims)
    return weight


def copies(source: State) -> dict[str, np.ndarray]:
    return {name: value.copy() for name, value in source.values.items()}


@given(weights(), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_push_after_pull_gives_the_value_back(weight: Weight, seed: int) -> None:
    state = copies(weight.state)
    value = fresh(weight.dims, 100 + seed)
    weight.recipe.pull(value, state)
    np.testing.assert_array_equal(weight.recipe.push(state), value)


@given(weights())
@settings(max_examples=200, deadline=None)
def test_pull_after_push_gives_the_parameters_back(weight: Weight) -> None:
    state = {name: np.zeros_like(value) for name, value in weight.state.values.items()}
    weight.recipe.pull(weight.numpy(), state)
    for name, value in weight.state.values.items():
        np.testing.assert_array_equal(state[name], value)


@given(weights(), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_adjoint_is_the_transpose_of_push(weight: Weight, seed: int) -> None:
    """<push(s), g> == <s, adjoint(g)> for linear recipes, a sum and a factor among them."""
    weight = (weight + weight.scale(3.0)).scale(-0.5)
    state = {name: value.astype(np.float64) for name, value in weight.state.values.items()}
    gradient = fresh(weight.dims, 300 + seed).astype(np.float64)
    gradients = {name: np.zeros_like(value) for name, value in state.items()}
    weight.recipe.adjoint(gradient, gradients)
    there = np.sum(weight.recipe.push(state) * gradient)
    back = sum(np.sum(state[name] * gradients[name]) for name in state)
    np.testing.assert_allclose(there, back, rtol=1e-6)


@given(weights())
@settings(max_examples=100, deadline=None)
def test_a_recipe_survives_json(weight: Weight) -> None:
    again = Recipe.from_json(weight.recipe.to_json())
    assert again == weight.recipe
    np.testing.assert_array_equal(again.push(weight.state.values), weight.numpy())


@given(weights(), weights(), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_an_untouched_sum_returns_bit_for_bit_and_a_changed_one_keeps_its_sum(left, right, seed) -> None:
    right = Weight.param("q", State({"q": fresh(left.dims, 7)}))
    source = State(left.state.values | right.state.values)
    total = Weight(left.recipe, source, left.dtype) + Weight(right.recipe, source, left.dtype)
    state = copies(source)
    total.recipe.pull(total.numpy(), state)
    for name, value in source.values.items():
        np.testing.assert_array_equal(state[name], value)
    changed = fresh(left.dims, 200 + seed)
    total.recipe.pull(changed, state)
    np.testing.assert_allclose(total.recipe.push(state), changed, rtol=1e-6, atol=1e-6)


def test_gates_reordered_twice_are_the_parameter_again() -> None:
    """torch i f g o -> ONNX i o f c -> Keras i f c o: no step is left but the transpose."""
    weight = Weight.param("w", State({"w": fresh((20, 3), 0)}))
    onnx = weight.blocks([0, 3, 1, 2]).reshape(1, 20, 3)
    keras = onnx.select(0, 0).blocks([0, 2, 3, 1]).rearrange("g i -> i g")
    assert keras.recipe == weight.transpose(1, 0).recipe


class Variable:
    """Stands in for a Keras variable."""

    def __init__(self, value: np.ndarray):
        self.value, self.path, self.shape, self.trainable = value, "layer/kernel", value.shape, True

    def assign(self, value: np.ndarray) -> None:
        self.value = np.array(value)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.value, dtype, copy=copy)


def one_entry_map() -> WeightMap:
    source = State({"w": fresh((4, 3), 0), "unused": fresh((2,), 1)})
    weight = Weight.param("w", source).transpose(1, 0)
    return WeightMap([Entry(Variable(weight.numpy()), weight)], source)


def test_a_map_returns_what_no_variable_holds() -> None:
    weights = one_entry_map()
    state = weights.pull()
    assert set(state) == {"w", "unused"}
    np.testing.assert_array_equal(state["unused"], weights.state.values["unused"])


def test_a_wrong_state_changes_nothing_and_lists_everything() -> None:
    weights = one_entry_map()
    before = np.array(weights.entries[0].variable)
    with pytest.raises(
        WeightsError, match=r"stranger is not of this model.*w has shape \(3, 4\), expected \(4, 3\)"
    ):
        weights.push({"w": fresh((3, 4), 2), "unused": fresh((2,), 1), "stranger": fresh((1,), 3)})
    with pytest.raises(WeightsError, match="w is missing"):
        weights.push({})
    np.testing.assert_array_equal(weights.entries[0].variable, before)


def test_a_state_goes_in_and_comes_out() -> None:
    weights = one_entry_map()
    state = {"w": fresh((4, 3), 5), "unused": fresh((2,), 6)}
    weights.push(state)
    np.testing.assert_array_equal(weights.entries[0].variable, state["w"].T)
    for name, value in weights.pull().items():
        np.testing.assert_array_equal(value, state[name])


def test_the_text_of_a_recipe() -> None:
    source = State({"conv.weight": fresh((2, 3, 4, 5), 0), "b": fresh((4,), 1), "c": fresh((4,), 2)})
    weight = Weight.param("conv.weight", source)
    assert str(weight.rearrange("o i h w -> h w i o").recipe) == "conv.weight: o i h w -> h w i o"
    assert str((Weight.param("b", source) + Weight.param("c", source)).recipe) == "b + c"
    assert weight.recipe == Param("conv.weight", (2, 3, 4, 5))


def test_a_parameter_used_in_part_is_kept_whole() -> None:
    source = State({"table": fresh((6, 3), 0), "rest": fresh((2,), 1)})
    weight = Weight.param("table", source).narrow(0, 0, 4)
    weights = WeightMap([Entry(Variable(weight.numpy()), weight)], source)
    assert weights.kept == {"table", "rest"}
    np.testing.assert_array_equal(weights.pull()["table"], source.values["table"])


def test_a_state_that_is_stepped_afterwards_does_not_change_the_map() -> None:
    weights = one_entry_map()
    state = {"w": fresh((4, 3), 5), "unused": fresh((2,), 6)}
    want = {name: value.copy() for name, value in state.items()}
    weights.push(state)
    for value in state.values():
        value += 1
    for name, value in weights.pull().items():
        np.testing.assert_array_equal(value, want[name])


def test_a_settled_map_reads_the_source_no_more() -> None:
    """What its variables hold it holds nowhere else."""
    weights = one_entry_map()
    want, apart = weights.pull(), detach_from_source(weights)
    for value in weights.state.values.values():
        value += 1
    for name, value in apart.pull().items():
        np.testing.assert_array_equal(value, want[name])
    assert {name: value.base is None for name, value in apart.state.values.items()} == {
        "w": False, "unused": True,
    }  # fmt: skip


def test_the_parts_of_a_map_have_nothing_in_common() -> None:
    source = State({name: fresh((3,), i) for i, name in enumerate("abcdef")}, aliases={"f": "a"})
    a, b, c, d = (Weight.param(name, source) for name in "abcd")
    made = [Weight.concat([a, b]), Weight.concat([c, c]), d + c, b]
    weights = WeightMap([Entry(Variable(weight.numpy()), weight) for weight in made], source)
    parts = list(split_by_parameters(weights))
    assert [set(part.state.values) for part in parts] == [{"a", "b", "f"}, {"c", "d"}]
    assert [[entry.weight for entry in part] for part in parts] == [[made[0], made[3]], made[1:3]]
    whole = weights.pull()
    for part in parts:
        for name, value in part.pull().items():
            np.testing.assert_array_equal(value, whole[name])


def test_a_value_is_held_once_and_no_longer_than_it_is_looked_at() -> None:
    weight = one_entry_map().entries[0].weight
    value = weight.numpy()
    assert weight.numpy() is value
    place = weakref.ref(value)
    del value
    assert place() is None


def test_tied_weights_that_differ_are_refused() -> None:
    source = State({"a": fresh((3,), 0), "b": fresh((3,), 0)}, aliases={"b": "a"})
    weight = Weight.param("a", source)
    weights = WeightMap([Entry(Variable(weight.numpy()), weight)], source)
    weights.push({"a": fresh((3,), 1)})
    with pytest.raises(WeightsError, match="b differs from a, with which it is one weight"):
        weights.push({"a": fresh((3,), 1), "b": fresh((3,), 2)})


@st.composite
def layouts(draw: st.DrawFn, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers of that shape, lying in memory in any order, backwards too, with or without gaps."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1])) for _ in order]
    room = fresh(tuple(shape[axis] * abs(step) for axis, step in zip(order, steps, strict=True)), 0)
    return room[tuple(slice(None, None, step) for step in steps)].transpose(np.argsort(order))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_copy_fills_its_place_whatever_the_layouts(data: st.DataObject) -> None:
    sizes = st.lists(st.sampled_from([1, 2, 3, 7, 31, 33, 130, 600]), min_size=1, max_size=5)
    shape = tuple(data.draw(sizes.filter(lambda sizes: np.prod(sizes) <= 200_000)))
    value, into = data.draw(layouts(shape)), data.draw(layouts(shape))
    whole = into.base
    whole[...] = np.nan
    copy_in_blocks(value, into)
    np.testing.assert_array_equal(into, value)
    assert np.isnan(whole).sum() == whole.size - into.size
