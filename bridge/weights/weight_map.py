"""`WeightMap`: the finished table, one recipe for each variable of the Keras model, both ways."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.errors import WeightsError, imported
from bridge.weights.memory import same_bits
from bridge.weights.parted import parted_parameters, require_together
from bridge.weights.recipes import Scale, Sum
from bridge.weights.tensors import tensor_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import torch

    from bridge.optimizers.rules import Optimizer
    from bridge.weights.entry import Entry, Row, Variable
    from bridge.weights.weight import State


def _numbers(name: str, tensor: torch.Tensor) -> np.ndarray:
    """The array of a torch tensor; of one in a coarser precision than numpy has, the same numbers in float32."""
    strided = str(tensor.layout) == "torch.strided"
    if not strided or tensor.is_meta or tensor.is_quantized or tensor.is_nested:
        raise WeightsError(
            f"{name} holds no plain numbers: give a tensor that is dense, in memory, not quantised"
        )
    coarse = tensor.is_floating_point() and tensor.element_size() < 4
    return np.asarray((tensor.float() if coarse else tensor).detach().cpu())


class WeightMap:
    """Which Keras variable is made from which torch parameters, and how; both ways.

    `state` holds every entry of the state_dict the conversion started from, converted or not, so that what no
    variable shows (an unused parameter, `num_batches_tracked`) comes back as it was.

    Examples:
        >>> result.model.fit(x, y)
        >>> module.load_state_dict(result.weights.to_torch())
    """

    def __init__(self, entries: Sequence[Entry], state: State):
        self.entries = tuple(entries)
        self.state = state

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def one_way(self) -> tuple[str, ...]:
        """The parameters whose recipes cannot be run backwards, of variables that may have changed."""
        return self._names(lambda e: e.variable.trainable and not e.recipe.invertible)

    @property
    def indirect(self) -> tuple[str, ...]:
        """The parameters that torch trains, and Keras what torch computes of them."""
        return self._names(lambda e: e.variable.trainable and not e.recipe.linear)

    def _names(self, wanted: Callable[[Entry], bool]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for entry in self if wanted(entry) for name in entry.recipe.names))

    @cached_property
    def kept(self) -> frozenset[str]:
        """The entries of the state that variables alone do not give back: those that no recipe uses or uses in part,
        and those that are summed, scaled or computed with."""
        left = self.state.values.keys() - self.state.aliases.keys()
        left.difference_update(*(entry.recipe.names for entry in self if entry.recipe.moves))
        moved = [e for e in self if e.recipe.linear and not e.recipe.contains(Sum, Scale)]
        narrowed = WeightMap([e for e in moved if left.intersection(e.recipe.names)], self.state)
        for part in split_by_parameters(
            narrowed
        ):  # all that is covered of the whole of them takes a quarter of it
            covered = {name: np.zeros(value.shape, bool) for name, value in part.state.values.items()}
            for entry in part:
                entry.recipe.adjoint(np.broadcast_to(True, entry.recipe.shape), covered)
            left.difference_update(name for name, seen in covered.items() if seen.all())
        return frozenset(left)

    @cached_property
    def constants(self) -> frozenset[str]:
        """The entries of the state whose numbers the model computes with and no variable holds."""
        return frozenset(self.state.read.difference(*(entry.recipe.names for entry in self)))

    @cached_property
    def parted(self) -> dict[str, tuple[str, ...]]:
        """The parameters that several variables hold, each of which trains by itself, with the paths of those."""
        return parted_parameters(self, self.state.values)

    def pull(self) -> dict[str, np.ndarray]:
        """The state_dict as arrays: the state's values with every Keras variable written back into them.

        Returns:
            An array for every entry of the state_dict by its name, in torch's shape and type.

        Raises:
            WeightsError: a recipe cannot be run backwards (`one_way`), or one parameter has become unlike in several
                variables.

        Examples:
            >>> np.savez("weights.npz", **result.weights.pull())
        """
        if self.one_way:
            raise WeightsError(
                f"cannot go back to torch: {', '.join(self.one_way)} were folded into other weights"
            )
        return values_held(self)

    def push(self, state: Mapping[str, np.ndarray]) -> None:
        """Fill every variable from arrays named as in the state_dict; all or nothing.

        Args:
            state: arrays by name, in the shapes that the module had when it was converted.

        Raises:
            WeightsError: an entry is missing, unknown or does not fit, or a recipe cannot be run backwards; nothing
                is changed then.

        Examples:
            >>> result.weights.push(dict(np.load("weights.npz")))
        """
        if self.one_way:
            raise WeightsError(
                f"cannot take other weights: {', '.join(self.one_way)} were folded; convert the module again"
            )
        wrong = list(self._misfits(state))
        if wrong:
            raise WeightsError("; ".join(wrong))
        for entry in self:
            if not entry.recipe.invertible:
                continue
            entry.fill(state)
        values = self.state.values
        values.update(
            {name: np.array(state[name], values[name].dtype) for name in self.kept if name in state}
        )

    def _misfits(self, state: Mapping[str, np.ndarray]) -> Iterator[str]:
        values, aliases = self.state.values, self.state.aliases
        folded = self._names(lambda entry: not entry.recipe.invertible)
        yield from (f"{name} is missing" for name in values if name not in state and name not in aliases)
        yield from (f"{name} is not of this model" for name in state if name not in values)
        for name in (name for name in values if name in state):
            if tuple(state[name].shape) != values[name].shape:
                yield f"{name} has shape {tuple(state[name].shape)}, expected {values[name].shape}"
            elif not np.can_cast(state[name].dtype, values[name].dtype, "same_kind"):
                yield f"{name} is {state[name].dtype}, expected {values[name].dtype}"
            elif name in folded and not np.array_equal(state[name], values[name], equal_nan=True):
                yield f"{name} was folded into other weights, and is another now: convert the module again"
            elif name in self.constants and not np.array_equal(state[name], values[name], equal_nan=True):
                yield f"{name} is a constant of this model, and is another now: convert the module again"
            elif name in aliases and not np.array_equal(state[name], state.get(aliases[name], state[name])):
                yield f"{name} differs from {aliases[name]}, with which it is one weight in this model"

    def to_torch(self, optimizer: Optimizer | None = None) -> dict[str, torch.Tensor]:
        """Take the weights, trained or not, back to torch.

        Args:
            optimizer: of Keras, that `optimizer_from_torch` gave. Of two parameters that are summed in Keras it knows
                what each has become; without it the change of the sum goes to the first.

        Returns:
            A state_dict of torch tensors that `module.load_state_dict(strict=True)` takes: every entry of the module,
            in its shape and type.

        Raises:
            WeightsError: a recipe cannot be run backwards (`one_way`), or one parameter has become unlike in several
                variables.
            MissingPackageError: torch is not installed.

        Examples:
            >>> module.load_state_dict(bridge.load("model.keras").weights.to_torch())
        """
        imported("torch", "a state_dict", "torch")
        state = self.pull()
        if optimizer is not None:
            from bridge.weights import moments

            moments.take_apart(self, optimizer, state)
        return {name: tensor_of(value) for name, value in state.items()}

    def load_torch(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Fill the Keras model from a newer state_dict of the same network.

        Args:
            state_dict: torch tensors by name, in the shapes that the module had when it was converted.

        Raises:
            WeightsError: an entry is missing, unknown or does not fit, or a recipe cannot be run backwards; nothing
                is changed then.

        Examples:
            >>> result.weights.load_torch(torch.load("newer.pt"))
        """
        self.push({name: _numbers(name, value) for name, value in state_dict.items()})

    def optimizer_from_torch(
        self,
        optimizer: torch.optim.Optimizer,
        scheduler: Any = None,
        *,
        module: torch.nn.Module | None = None,
        steps_per_call: int = 1,
    ) -> Optimizer:
        """An optimizer of Keras that goes on where one of torch stands: docs/training.md.

        Args:
            optimizer: torch's SGD, Adam, AdamW or RMSprop on the parameters of the module that was converted.
            scheduler: torch's learning-rate scheduler of it, which becomes a schedule of Keras.
            module: whose parameters those are, where the optimizer does not know their names and has them in another
                order than the module.
            steps_per_call: the steps of the optimizer between two calls of `scheduler.step()`.

        Returns:
            An optimizer that is built for the trained variables of the model, with torch's moments, count of steps and
            settings. It is Keras's own where that takes the same steps.

        Raises:
            WeightsError: the two do not fit, with all that does not; or Keras has nothing that takes the same steps.

        Examples:
            >>> result.model.compile(result.weights.optimizer_from_torch(optimizer), loss)
        """
        from bridge.weights import moments

        return moments.from_torch(self, optimizer, module, scheduler, steps_per_call)

    def optimizer_to_torch(
        self,
        optimizer: Optimizer,
        into: torch.optim.Optimizer,
        *,
        module: torch.nn.Module | None = None,
    ) -> None:
        """Take what Keras's optimizer holds back to one of torch.

        Args:
            optimizer: of this model, as `optimizer_from_torch` gave it, or Keras's SGD.
            into: torch's, of the same kind, on the parameters of the module. It gets moments, counts of steps and
                settings, the current learning rate among them.
            module: as for `optimizer_from_torch`.

        Raises:
            WeightsError: the two do not fit; nothing is changed then.

        Examples:
            >>> module.load_state_dict(result.weights.to_torch())
            >>> result.weights.optimizer_to_torch(result.model.optimizer, optimizer)
        """
        from bridge.weights import moments

        moments.to_torch(self, optimizer, into, module)

    def to_json(self) -> list[Row]:
        """What every variable is made of.

        Returns:
            For each variable its layer, the attribute below it, whether it trains and its recipe, in types of JSON.

        Examples:
            >>> json.dumps(result.weights.to_json())
        """
        return [
            {
                "layer": e.layer,
                "attribute": e.attribute,
                "trainable": e.variable.trainable,
                "recipe": e.recipe.to_json(),
            }
            for e in self
        ]

    def __str__(self) -> str:
        return "\n".join(f"{entry.variable.path} <- {entry.recipe}" for entry in self)


def split_by_parameters(weights: WeightMap) -> Iterator[WeightMap]:
    """The map in as many as have no parameter in common: each holds of the state what its own entries name."""
    parts: dict[str, list[Entry]] = {}
    for entry in weights:
        joined = {id(part): part for name in entry.recipe.names if (part := parts.get(name)) is not None}
        merged = [*itertools.chain(*joined.values()), entry]
        parts.update((name, merged) for each in merged for name in each.recipe.names)
    for part in {id(part): part for part in parts.values()}.values():
        yield WeightMap(part, weights.state.only({name for entry in part for name in entry.recipe.names}))


def values_held(weights: WeightMap) -> dict[str, np.ndarray]:
    """As `WeightMap.pull`, where there may be parameters that go one way only, which are as they were."""
    values, aliases = weights.state.values, weights.state.aliases
    state = {
        name: np.array(value) if name in weights.kept else np.empty(value.shape, value.dtype)
        for name, value in values.items()
    }
    for entry in weights:
        if entry.recipe.invertible:  # what does not train otherwise is as it was
            entry.pull(state)
    require_together(weights, weights.parted, state)
    return state | {alias: state[name] for alias, name in aliases.items()}


def seen_unchanged(weights: WeightMap) -> bool:
    """Whether a map of one variable is seen to be as it was without memory for it: the place that `pull` writes it to,
    among the numbers that were given, is all of them and holds the same."""
    first, *others = weights
    place = None if others or not first.recipe.moves else first.recipe.view(weights.state.values)
    if place is None or place.size != sum(value.size for value in weights.state.values.values()):
        return False
    held = first.held
    return held.dtype == place.dtype and held.shape == place.shape and same_bits(held, place)


def detach_from_source(weights: WeightMap) -> WeightMap:
    """The map apart from the source, whose memory it no longer reads."""
    state = weights.state.settled(weights.kept)
    return WeightMap([replace(entry, weight=entry.weight.of(state)) for entry in weights], state)


def in_order(entries: Iterable[Entry], variables: Sequence[Variable]) -> list[Entry]:
    """The entries as a model has its variables, which is how its optimizer knows them."""
    places = {id(variable): place for place, variable in enumerate(variables)}
    return sorted(entries, key=lambda entry: places.get(id(entry.variable), len(places)))
