"""Ensembles of trees: all trees of all rows take a step at a time, by lookups in the tables of their nodes, and add up
what their leaves hold. A leaf is followed by itself."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.frontend.onnx.classical import FLOAT, INT64, ML, chosen, transformed
from bridge.frontend.onnx.lowered import Writer, lowers

COMPARES = {
    "BRANCH_LEQ": "LessOrEqual", "BRANCH_LT": "Less", "BRANCH_GTE": "GreaterOrEqual", "BRANCH_GT": "Greater",
    "BRANCH_EQ": "Equal", "BRANCH_NEQ": "Equal",
}  # fmt: skip
MODES = (*COMPARES, "BRANCH_MEMBER")  # by number, as TreeEnsemble has them
LEAF = "LEAF"
REDUCES = {"SUM": "ReduceSum", "AVERAGE": "ReduceSum", "MIN": "ReduceMin", "MAX": "ReduceMax"}
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")  # by number
NUMBERED = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
MISPLACED = "its nodes are no trees; ask the exporter for a valid ensemble"


@dataclass(frozen=True)
class Forest:
    """The nodes of all trees, by number; a leaf is followed by itself."""

    modes: Sequence[str]
    features: np.ndarray
    thresholds: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    missing: np.ndarray  # whether a NaN goes the way of yes
    scores: np.ndarray  # of each node and target: what a leaf adds
    scored: np.ndarray  # of each node and target: whether it does
    roots: np.ndarray

    @functools.cached_property
    def leaves(self) -> np.ndarray:
        return np.asarray([mode == LEAF for mode in self.modes])

    def levels(self, write: Writer, front: np.ndarray) -> list[np.ndarray]:
        """The nodes that are reached from those of `front` by no step, by one, and so on until all are leaves."""
        found = [front]
        while not self.leaves[found[-1]].all():
            found.append(np.union1d(self.yes[found[-1]], self.no[found[-1]]))
            if len(found) > len(self.modes) + 1:
                write.refuse(MISPLACED)
        return found

    def surely_scored(self, write: Writer) -> np.ndarray:
        """Of each target, whether some tree scores it at every leaf."""
        ends = (self.levels(write, np.asarray([root]))[-1] for root in self.roots)
        return np.any([self.scored[end].all(0) for end in ends], axis=0)


# --- the nodes -----------------------------------------------------------------------------------------------------


def _by_ids(
    write: Writer, targets: int, ids: Sequence[Sequence[int]], weights: np.ndarray, nodes: dict[str, Any]
) -> Forest:
    """The forest of an operator that has trees and nodes by ids. `ids` are the tree, node and target of each weight."""
    keys = list(zip(nodes["nodes_treeids"], nodes["nodes_nodeids"], strict=True))
    place = {key: number for number, key in enumerate(keys)}
    modes = nodes["nodes_modes"]

    def following(names: str) -> np.ndarray:
        lead = zip(keys, nodes[names], modes, strict=True)
        wanted = [key if mode == LEAF else (key[0], to) for key, to, mode in lead]
        if not all(key in place for key in wanted):
            write.refuse(MISPLACED)
        return np.asarray([place[key] for key in wanted])

    scores, scored = np.zeros((len(keys), targets), weights.dtype), np.zeros((len(keys), targets), bool)
    for tree, node, target, weight in zip(*ids, weights, strict=True):
        if (tree, node) not in place or not 0 <= target < targets:
            write.refuse(MISPLACED)
        scores[place[tree, node], target] += weight
        scored[place[tree, node], target] = True
    missing = nodes.get("nodes_missing_value_tracks_true") or np.zeros(len(keys))
    yes, no = following("nodes_truenodeids"), following("nodes_falsenodeids")
    forest = Forest(
        modes, np.asarray(nodes["nodes_featureids"]), _numbers(nodes, "nodes_values"), yes, no,
        np.asarray(missing, bool), scores, scored, _roots(write, nodes["nodes_treeids"], modes, yes, no),
    )  # fmt: skip
    if len(np.unique(np.concatenate(forest.levels(write, forest.roots)))) < len(modes):
        write.refuse(MISPLACED)
    return forest


def _roots(
    write: Writer, trees: Sequence[int], modes: Sequence[str], yes: np.ndarray, no: np.ndarray
) -> np.ndarray:
    """The node of each tree that none leads to."""
    branches = [node for node, mode in enumerate(modes) if mode != LEAF]
    roots = np.setdiff1d(np.arange(len(modes)), np.concatenate([yes[branches], no[branches]]))
    if sorted(trees[root] for root in roots) != sorted(set(trees)):
        write.refuse(MISPLACED)
    return roots


def _numbers(given: dict[str, Any], name: str) -> np.ndarray:
    """An attribute of numbers, which may be a tensor."""
    tensor = given.get(f"{name}_as_tensor")
    return np.asarray(given.get(name) or (), np.float32) if tensor is None else np.asarray(tensor.numpy())


def _by_places(write: Writer, given: dict[str, Any]) -> Forest:
    """The forest of a TreeEnsemble: its branches, then its leaves; a test for one of several values is a chain."""
    modes = [MODES[int(mode)] for mode in given["nodes_modes"].numpy()]
    count, weights = len(modes), np.asarray(given["leaf_weights"].numpy())
    leaves = len(weights)
    yes, no = (
        np.asarray(given[f"nodes_{side}nodeids"]) + count * (np.asarray(given[f"nodes_{side}leafs"]) != 0)
        for side in ("true", "false")
    )
    rows = {
        "features": np.asarray(given["nodes_featureids"]),
        "thresholds": np.asarray(given["nodes_splits"].numpy()),
        "missing": np.asarray(given.get("nodes_missing_value_tracks_true") or np.zeros(count), bool),
    }
    if max(yes.max(initial=0), no.max(initial=0)) >= count + leaves:
        write.refuse(MISPLACED)
    filled = {name: np.concatenate([row, np.zeros(leaves, row.dtype)]) for name, row in rows.items()}
    own = np.arange(count, count + leaves)
    scores = np.zeros((count + leaves, given["n_targets"]), weights.dtype)
    scores[own, given["leaf_targetids"]] = weights
    scored = np.zeros(scores.shape, bool)
    scored[own, given["leaf_targetids"]] = True
    whole = Forest(
        modes + [LEAF] * leaves, yes=np.concatenate([yes, own]), no=np.concatenate([no, own]), scores=scores,
        scored=scored, roots=np.asarray(given["tree_roots"]), **filled,
    )  # fmt: skip
    return _without_members(write, whole, given.get("membership_values"))


def _without_members(write: Writer, forest: Forest, values: Any) -> Forest:
    """Each test for membership as tests for one value after the other; the values of the tests end in NaN each."""
    members = np.flatnonzero(np.asarray(forest.modes) == "BRANCH_MEMBER")
    if not len(members):
        return forest
    numbers = np.asarray(values.numpy())
    sets = np.split(numbers, np.flatnonzero(np.isnan(numbers)) + 1)
    if len(sets) < len(members):
        write.refuse("its membership_values are fewer than its tests for membership")
    modes = list(forest.modes)
    columns = {
        name: list(getattr(forest, name)) for name in ("features", "thresholds", "yes", "no", "missing")
    }
    for node, some in zip(members, sets, strict=False):
        some = some[~np.isnan(some)]
        chain = [node, *range(len(modes), len(modes) + max(len(some) - 1, 0))]
        modes[node] = "BRANCH_EQ"
        modes += ["BRANCH_EQ"] * (len(chain) - 1)
        for column in columns.values():
            column += [column[node]] * (len(chain) - 1)
        for at, value in zip(chain, some, strict=False):
            columns["thresholds"][at] = value
        for at, following in zip(chain, chain[1:], strict=False):
            columns["no"][at] = following
        if not len(some):
            columns["yes"][node] = columns["no"][node]
    more = len(modes) - len(forest.modes)
    tables = {name: np.pad(getattr(forest, name), ((0, more), (0, 0))) for name in ("scores", "scored")}
    return Forest(
        modes, roots=forest.roots, **{name: np.asarray(column) for name, column in columns.items()}, **tables
    )


# --- what is written -----------------------------------------------------------------------------------------------


def _leaves(write: Writer, x: ir.Value, forest: Forest) -> ir.Value:
    """Of each row and tree the leaf at which it ends."""
    if x.shape is None or len(x.shape) != 2:
        write.refuse("it is given other than rows of numbers; give it two axes")
    x = x if x.dtype is None or x.dtype.is_floating_point() else write.cast(x, FLOAT)
    dtype = np.float32 if x.dtype is None else x.dtype.numpy()
    modes = [mode for mode in COMPARES if mode in forest.modes]
    tables = {
        "thresholds": write.constant(forest.thresholds, dtype),
        "mode": write.constant([modes.index(m) if m in modes else 0 for m in forest.modes]),
        "missing": write.constant(forest.missing, bool),
        "yes": write.constant(forest.yes),
        "no": write.constant(forest.no),
    }
    features = write.constant(forest.features)
    at = write.constant(forest.roots)
    for step in range(max(len(forest.levels(write, forest.roots)) - 1, 1)):
        rows = {name: write("Gather", table, at) for name, table in tables.items()}
        wanted = write("Gather", features, at)
        value = write("GatherElements", x, wanted, axis=1) if step else write("Gather", x, wanted, axis=1)
        found = _found(write, value, rows, modes)
        if forest.missing.any():
            nowhere = write("And", write("IsNaN", value), rows["missing"])
            found = write("Or", found, nowhere)
        at = write("Where", found, rows["yes"], rows["no"])
    return at


def _found(write: Writer, value: ir.Value, rows: dict[str, ir.Value], modes: Sequence[str]) -> ir.Value:
    """Whether the tests of the nodes hold, each by its mode."""
    found: ir.Value | None = None
    for number, mode in enumerate(modes or list(COMPARES)[:1]):
        holds = write(COMPARES[mode], value, rows["thresholds"])
        holds = write("Not", holds) if mode == "BRANCH_NEQ" else holds
        if found is None:
            found = holds
        else:
            found = write("Where", write("Equal", rows["mode"], write.constant(number)), holds, found)
    assert found is not None
    return found


def _scores(write: Writer, x: ir.Value, forest: Forest, aggregate: str = "SUM", base: Any = ()) -> ir.Value:
    """Of each row and target what its leaves come to."""
    if aggregate in ("MIN", "MAX") and not forest.scored[forest.leaves].all():
        write.refuse(f"its leaves have no score for some of its targets, whose {aggregate} is not defined")
    table = write.constant(forest.scores, forest.scores.dtype)
    found = write("Gather", table, _leaves(write, x, forest), axis=0)
    y = write(REDUCES[aggregate], found, write.constant([1]), keepdims=0)
    if aggregate == "AVERAGE":
        y = write("Div", y, write.constant(len(forest.roots), forest.scores.dtype))
    return write("Add", y, write.constant(base, forest.scores.dtype)) if len(base) else y


@lowers("TreeEnsemble", domain=ML)
def tree_ensemble(write: Writer, x, *, aggregate_function=1, post_transform=0, n_targets=1, **nodes):
    forest = _by_places(write, {**nodes, "n_targets": n_targets})
    y = _scores(write, x, forest, AGGREGATES[aggregate_function])
    return transformed(write, y, NUMBERED[post_transform], n_targets)


@lowers("TreeEnsembleRegressor", domain=ML)
def tree_ensemble_regressor(
    write: Writer, x,
    *, target_ids, target_nodeids, target_treeids, n_targets=1, aggregate_function="SUM", post_transform="NONE",
    **nodes,
):  # fmt: skip
    ids = (target_treeids, target_nodeids, target_ids)
    forest = _by_ids(write, n_targets, ids, _numbers(nodes, "target_weights"), nodes)
    base = _numbers(nodes, "base_values")
    y = _scores(write, x, forest, aggregate_function, base)
    return write.cast(transformed(write, y, post_transform, n_targets), FLOAT)


@lowers("TreeEnsembleClassifier", domain=ML)
def tree_ensemble_classifier(
    write: Writer, x,
    *, class_ids, class_nodeids, class_treeids, classlabels_int64s=(), classlabels_strings=(), post_transform="NONE",
    **nodes,
):  # fmt: skip
    count = len(classlabels_int64s or classlabels_strings)
    weights, base = _numbers(nodes, "class_weights"), _numbers(nodes, "base_values")
    forest = _by_ids(write, count, (class_treeids, class_nodeids, class_ids), weights, nodes)
    if not (forest.surely_scored(write) | ~forest.scored.any(0)).all():
        write.refuse(
            "some of its leaves score classes that others do not; give every leaf a score of each class"
        )
    if count == 2 and set(class_ids) == {0}:
        best, y = _binary(write, x, forest, post_transform, base)
    elif count > 2 and forest.scored.any(0).all() or len(base) == count > 2:
        scores = _scores(write, x, forest, base=base)
        best, y = write("ArgMax", scores, axis=-1, keepdims=0), transformed(write, scores, post_transform)
    else:
        write.refuse(
            "of two classes it scores other than the first, of which onnxruntime has rules of its own"
        )
    return chosen(write, best, classlabels_int64s, classlabels_strings), write.cast(y, FLOAT)


def _binary(
    write: Writer, x: ir.Value, forest: Forest, post_transform: str, base: np.ndarray
) -> tuple[ir.Value, ir.Value]:
    """One score for two classes, as onnxruntime reads it: a probability where no leaf is negative."""
    if len(base) > 1:
        write.refuse("it has two base values for one score; give it one")
    narrow = replace(forest, scores=forest.scores[:, :1], scored=forest.scored[:, :1])
    score = _scores(write, x, narrow, base=base)
    positive = not (forest.scores < 0).any()
    bound = write.constant(0.5 if positive else 0, forest.scores.dtype)
    best = write.cast(write("Squeeze", write("Greater", score, bound), write.constant([1])), INT64)
    if positive:
        other = write("Sub", write.constant(1, forest.scores.dtype), score)
    elif post_transform == "LOGISTIC":
        other, score = write("Sigmoid", write("Neg", score)), write("Sigmoid", score)
    else:
        other = write("Neg", score)
    return best, write("Concat", other, score, axis=1)
