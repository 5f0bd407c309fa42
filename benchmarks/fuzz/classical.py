"""How a node of each operator of `ai.onnx.ml` is drawn, and random trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import numpy_helper

from benchmarks.fuzz.draft import Draft
from benchmarks.fuzz.operators import draws

ML = "ai.onnx.ml"
FLOAT = ["float32"]
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


def _some(d: Draft, *shape: int) -> list[float]:
    return [round(float(number), 3) for number in d.numbers.normal(size=shape).reshape(-1)]


def _rows(d: Draft) -> tuple[str, int]:
    """Rows of numbers, and how many are in each."""
    x = d.tensor(FLOAT, rank=(2, 2), least=1)
    return x, d.values[x].shape[1]


@draws(f"{ML}:Scaler {ML}:Normalizer {ML}:Binarizer {ML}:Imputer")
def row(d: Draft) -> None:
    x, size = _rows(d)
    kind = d.op.rpartition(":")[2]
    given: dict[str, Any] = {
        "Scaler": {"offset": _some(d, size), "scale": _some(d, d.pick([1, size]))},
        "Normalizer": {"norm": d.pick(["MAX", "L1", "L2"])},
        "Binarizer": {"threshold": d.pick([None, 0.5, -0.5])},
        "Imputer": {
            "imputed_value_floats": _some(d, d.pick([1, size])),
            "replaced_value_float": d.pick([0.5, float("nan")]),
        },
    }[kind]
    if len(given.get("offset", ())) != len(given.get("scale", ())):
        given["scale"] *= size
    d.node([x], **given)


@draws(f"{ML}:OneHotEncoder {ML}:LabelEncoder")
def category(d: Draft) -> None:
    keys = d.random.sample(range(-4, 7), d.random.randint(1, 6))
    x = d.tensor(["int64"], rank=(1, 3))
    if "OneHot" in d.op:
        d.node([x], cats_int64s=keys)
    elif d.chance(0.5):
        d.node([x], keys_int64s=keys, values_floats=_some(d, len(keys)), default_float=d.pick([0.25, -1.5]))
    else:
        d.node([x], keys_int64s=keys, values_int64s=d.random.sample(range(9), len(keys)), default_int64=-3)


@draws(f"{ML}:ArrayFeatureExtractor")
def features(d: Draft) -> None:
    x, size = _rows(d)
    d.node([x, d.leaf("int64", (d.random.randint(1, 4),), (0, size - 1), "iwc")])


@draws(f"{ML}:FeatureVectorizer")
def joined(d: Draft) -> None:
    x, size = _rows(d)
    others = [
        d.leaf("float32", (len(d.values[x]), d.random.randint(1, 4))) for _ in range(d.random.randint(0, 2))
    ]
    d.node([x, *others], inputdimensions=[size, *(d.values[other].shape[1] for other in others)])


@draws(f"{ML}:LinearRegressor {ML}:LinearClassifier")
def linear(d: Draft) -> None:
    x, size = _rows(d)
    count = d.random.randint(2, 4)
    given = {
        "coefficients": _some(d, count, size), "intercepts": _some(d, count),
        "post_transform": d.pick(["NONE", "SOFTMAX", "LOGISTIC"]),
    }  # fmt: skip
    if "Regressor" in d.op:
        d.node([x], targets=count, **given)
    else:
        d.node([x], 2, classlabels_ints=d.random.sample(range(9), count), **given)


@draws(f"{ML}:SVMRegressor")
def support_vectors(d: Draft) -> None:
    x, size = _rows(d)
    count = d.random.randint(1, 4)
    d.node(
        [x], coefficients=_some(d, count), kernel_type=d.pick(["LINEAR", "POLY", "RBF", "SIGMOID"]),
        kernel_params=[0.3, 0.5, 2.0], n_supports=count, rho=_some(d, 1), support_vectors=_some(d, count, size),
        one_class=d.pick([0, 0, 1]),
    )  # fmt: skip


@draws(f"{ML}:TreeEnsembleRegressor {ML}:TreeEnsembleClassifier")
def forest(d: Draft) -> None:
    x, size = _rows(d)
    count, classes = d.random.randint(1, 3), "Classifier" in d.op
    only = 0 if classes and count == 2 else None
    count += classes and count == 1
    nodes, ids = trees(
        d.random.getrandbits(32), count, modes=d.pick([MODES, MODES[:1]]), count=d.random.randint(1, 4),
        depth=d.random.randint(0, 4), positive=d.chance(0.3), only=0 if count == 2 and classes else only, features=size,
        missing=d.chance(0.3),
    )  # fmt: skip
    kind = "class" if classes else "target"
    given: dict[str, Any] = {f"{kind}_{name}": values for name, values in ids.items()} | nodes
    given["post_transform"] = d.pick(["NONE", "SOFTMAX", "LOGISTIC"]) if count > 2 else None
    if classes:
        d.node([x], 2, classlabels_int64s=d.random.sample(range(9), count), **given)
    else:
        d.node([x], n_targets=count, aggregate_function=d.pick(["SUM", "AVERAGE", "MIN", "MAX"]), **given)


@draws(f"{ML}:TreeEnsemble")
def ensemble(d: Draft) -> None:
    """A tree of one test for each feature, one after the other."""
    x, size = _rows(d)
    targets, last = d.random.randint(1, 3), size - 1
    leaves = d.numbers.normal(size=size + 1).astype("float32")
    splits = d.numbers.choice([-1, -0.5, 0, 0.5], size).astype("float32")
    modes = d.numbers.integers(0, 6, size).astype("uint8")
    member = d.random.randrange(size) if d.chance(0.4) else None
    if member is not None:
        modes[member] = 6
    members = numpy_helper.from_array(np.array([0.5, -1, 2, np.nan], "float32"))
    d.node(
        [x], n_targets=targets, aggregate_function=d.pick([0, 1]) if targets > 1 else d.random.randint(0, 3),
        leaf_targetids=d.numbers.integers(0, targets, size + 1).tolist(),
        leaf_weights=numpy_helper.from_array(leaves), membership_values=None if member is None else members,
        nodes_falseleafs=[int(k == last) for k in range(size)], nodes_falsenodeids=[*range(1, size), size],
        nodes_featureids=list(range(size)), nodes_modes=numpy_helper.from_array(modes),
        nodes_splits=numpy_helper.from_array(splits), nodes_trueleafs=[1] * size, nodes_truenodeids=list(range(size)),
        tree_roots=[0],
    )  # fmt: skip


def trees(
    seed: int,
    targets: int,
    *,
    modes: Sequence[str] = MODES[:1],
    count: int = 3,
    depth: int = 3,
    positive: bool = False,
    only: int | None = None,
    missing: bool = False,
    features: int = 4,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes of random trees, and the ids and weights of their leaves."""
    random = np.random.default_rng(seed)
    rows: list[Any] = []
    leaves: list[Any] = []

    def grow(tree: int, number: int, left: int) -> int:
        here = len(rows)
        rows.append(None)
        if not left or random.random() < 0.2:
            rows[here] = (tree, number, 0, 0.0, "LEAF", 0, 0, 0)
            for target in range(targets) if only is None else [only]:
                weight = random.uniform(0 if positive else -1, 1 / count)
                leaves.append((tree, number, target, weight))
            return number + 1
        following = grow(tree, number + 1, left - 1)
        after = grow(tree, following, left - 1)
        threshold = float(np.float32(random.choice([-1, -0.5, 0, 0.5, 1])))
        mode, tracks = random.choice(modes), int(missing and random.random() < 0.5)
        rows[here] = (
            tree,
            number,
            int(random.integers(features)),
            threshold,
            str(mode),
            number + 1,
            following,
            tracks,
        )
        return after

    for tree in range(count):
        grow(tree, 0, depth)
    names = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids",
             "missing_value_tracks_true")  # fmt: skip
    nodes = {
        f"nodes_{name}": column
        for name, column in zip(names, map(list, zip(*rows, strict=True)), strict=True)
    }
    ids = dict(
        zip(("treeids", "nodeids", "ids", "weights"), map(list, zip(*leaves, strict=True)), strict=True)
    )
    return nodes, ids
