"""Inputs of several sizes for the model under proof, drawn so that they fit it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.verification.metrics import Arrays

Sizes = dict[str, int]


def sizes_text(sizes: Sizes) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "as exported"


@dataclass(frozen=True)
class Sampler:
    """Draws inputs of any size that fit the model: values like the example's, indices within their tables, lengths
    within their sequences (the longest as long as the sequence)."""

    inputs: Sequence[ir.Value]
    examples: Arrays
    lengths: dict[str, Any]  # input name -> the dim that bounds it
    tables: dict[str, int]  # input name -> how many rows its values choose from

    @classmethod
    def of(cls, model: ir.Model, examples: Arrays | None = None) -> Sampler:
        """For `model` as `passes.simplify` left it; without examples every free axis starts at a small size."""
        lengths, tables = _lengths(model.graph), _tables(model.graph)
        inputs = list(model.graph.inputs)
        sampler = cls(inputs, [], lengths, tables)
        if examples is None:
            sizes = {name: 3 + 2 * i for i, name in enumerate(sampler.symbols())}
            rng = np.random.default_rng(0)
            examples = [sampler._draw(value, None, sizes, rng) for value in inputs]
        return cls(inputs, examples, lengths, tables)

    def symbols(self) -> list[str]:
        return list(
            dict.fromkeys(
                s for v in self.inputs for d in v.shape if not isinstance(d, int) for s in d.free_symbols()
            )
        )

    def exported(self) -> Sizes:
        """The sizes of the examples."""
        sizes: Sizes = {}
        for value, example in zip(self.inputs, self.examples, strict=True):
            for dim, size in zip(value.shape, example.shape, strict=True):
                if not isinstance(dim, int) and dim.value in self.symbols():
                    sizes.setdefault(dim.value, size)
        return sizes

    def others(self) -> Iterator[Sizes]:
        """Other sizes to try, the likeliest to be legal and the most telling first."""
        base = self.exported()
        first = next(iter(base), None)
        rules: list[Callable[[str, int], int]] = [
            lambda name, n: n + 1,
            lambda name, n: 1 if name == first else 3 * n,
            lambda name, n: 2 * n,
            lambda name, n: 3 * n,
            lambda name, n: n + 3 if name == first else 4 * n,
            lambda name, n: n + 2,
        ]
        if base:
            yield from ({name: rule(name, n) for name, n in base.items()} for rule in rules)

    def draws(self) -> Iterator[tuple[Sizes, Arrays]]:
        """The examples, then inputs of other sizes."""
        yield self.exported(), self.examples
        for seed, sizes in enumerate(self.others(), 1):
            yield sizes, self.draw(sizes, seed)

    def draw(self, sizes: Sizes, seed: int = 0) -> Arrays:
        rng = np.random.default_rng(seed)
        return [self._draw(v, e, sizes, rng) for v, e in zip(self.inputs, self.examples, strict=True)]

    def _draw(
        self, value: ir.Value, example: np.ndarray | None, sizes: Sizes, rng: np.random.Generator
    ) -> np.ndarray:
        shape = tuple(_evaluate(dim, sizes) for dim in value.shape)
        dtype = value.dtype.numpy() if example is None else example.dtype
        if value.name in self.lengths:
            longest = _evaluate(self.lengths[value.name], sizes)
            drawn = rng.integers(1, longest + 1, shape)
            drawn.reshape(-1)[:1] = longest
            if example is not None and example.ndim == 1 and np.all(np.diff(example) <= 0):
                drawn = np.sort(drawn)[::-1]  # packing may insist on sorted lengths
            return drawn.astype(dtype, order="C")
        if dtype.kind == "b":
            return rng.integers(0, 2, shape).astype(bool)
        if dtype.kind in "ui":
            low, high = 0, self.tables.get(value.name, 10)
            if example is not None and example.size:
                low, high = int(example.min()), int(example.max()) + 1
            return rng.integers(low, max(high, low + 1), shape).astype(dtype)
        if example is not None and example.size > 1 and example.std() > 0:
            return rng.permutation(np.resize(example, max(int(np.prod(shape)), 1)))[
                : int(np.prod(shape))
            ].reshape(shape)
        return rng.standard_normal(shape).astype(dtype)


def _evaluate(dim: Any, sizes: Sizes) -> int:
    return dim if isinstance(dim, int) else int(dim.evaluate(sizes))


def _root(value: ir.Value | None) -> ir.Value | None:
    """The value that `value` is a cast or a copy of."""
    while (
        value is not None
        and value.producer() is not None
        and value.producer().op_type in ("Cast", "Identity")
    ):
        value = value.producer().inputs[0]
    return value


def _lengths(graph: ir.Graph) -> dict[str, Any]:
    found = {}
    for node in graph:
        if (
            node.domain == "bridge"
            and len(node.inputs) > 4
            and node.op_type not in ("LSTMCell", "GRUCell", "RNNCell")
        ):
            root, time = _root(node.inputs[4]), 0 if node.op_type.startswith("LSTMP") else 1
            if root is not None and root.is_graph_input():
                found[root.name] = node.inputs[0].shape[time]
    return found


def _tables(graph: ir.Graph) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in graph:
        if (
            node.op_type == "Gather"
            and node.inputs[0].shape is not None
            and isinstance(node.inputs[0].shape[0], int)
        ):
            root = _root(node.inputs[1])
            if root is not None and root.is_graph_input():
                found[root.name] = min(found.get(root.name, 1 << 62), node.inputs[0].shape[0])
    return found
