"""How a node of each operator that changes shapes or multiplies matrices is drawn."""

from __future__ import annotations

import string

import numpy as np

from benchmarks.fuzz.draft import Draft
from benchmarks.fuzz.operators import draws


@draws("Reshape")
def reshape(d: Draft) -> None:
    x = d.tensor()
    shape = list(d.values[x].shape)
    kind = d.random.random()
    if kind < 0.3 and len(shape) > 1:  # two axes become one
        at = d.random.randrange(len(shape) - 1)
        shape[at : at + 2] = [shape[at] * shape[at + 1]]
    elif kind < 0.6 and shape:  # one becomes two
        at = d.random.randrange(len(shape))
        part = d.pick([n for n in range(1, shape[at] + 1) if shape[at] % n == 0] or [1])
        shape[at : at + 1] = [part, shape[at] // part]
    elif kind < 0.8 or not all(shape):
        d.random.shuffle(shape)
    else:
        shape = [int(np.prod(shape))]
    same = [i for i, (a, b) in enumerate(zip(shape, d.values[x].shape, strict=False)) if a == b]
    shape = [0 if i in same and d.chance(0.3) else n for i, n in enumerate(shape)]
    if all(d.values[x].shape) and shape and d.chance(0.5):
        shape[d.random.randrange(len(shape))] = -1
    d.node([x, d.ints(np.array(shape, "int64"))])


@draws("Flatten")
def flatten(d: Draft) -> None:
    x = d.tensor()
    rank = d.values[x].ndim
    d.node([x], axis=d.pick([d.random.randint(-rank if d.opset >= 11 else 0, rank), None]) if rank else 0)


@draws("Squeeze")
def squeeze(d: Draft) -> None:
    x = d.tensor(fits=lambda array: 1 in array.shape, rank=(1, 5))
    ones = [i for i, n in enumerate(d.values[x].shape) if n == 1]
    axes = d.random.sample(ones, d.random.randint(1, len(ones)))
    axes = [a - d.values[x].ndim if d.opset >= 11 and d.chance(0.3) else a for a in axes]
    inputs, given = d.either("axes", d.pick([axes, axes, None]))
    d.node([x, *inputs], **given)


@draws("Unsqueeze")
def unsqueeze(d: Draft) -> None:
    x = d.tensor(rank=(0, 4))
    count = d.random.randint(1, 2)
    rank = d.values[x].ndim + count
    axes = d.random.sample(range(rank), count)
    axes = [axis - rank if d.opset >= 11 and d.chance(0.3) else axis for axis in axes]
    inputs, given = d.either("axes", axes)
    d.node([x, *inputs], **given)


@draws("Expand")
def expand(d: Draft) -> None:
    x = d.tensor()
    shape = [d.size() if n == 1 and d.chance(0.5) else 1 if d.chance(0.2) else n for n in d.values[x].shape]
    shape = [1 if d.chance(0.4) else d.size() for _ in range(max(0, d.random.randint(-3, 1)))] + shape
    d.node([x, d.ints(np.array(shape[d.pick([0, 0, 1]) :], "int64"))])


@draws("Tile")
def tile(d: Draft) -> None:
    x = d.tensor(rank=(0, 4))
    d.node([x, d.ints(np.array([d.pick([1, 1, 2, 3, 0]) for _ in d.values[x].shape], "int64"))])


@draws("Concat")
def concat(d: Draft) -> None:
    x = d.tensor(rank=(1, 5))
    axis, parts = d.axis(x), [x]
    for _ in range(d.random.randint(0, 2)):
        shape = list(d.values[x].shape)
        shape[axis] = d.size()
        parts.append(d.leaf(d.values[x].dtype.name, shape, roles="iiwc") if d.chance(0.8) else x)
    d.random.shuffle(parts)
    d.node(parts, axis=axis)


@draws("Transpose")
def transpose(d: Draft) -> None:
    x = d.tensor()
    perm = list(range(d.values[x].ndim))
    d.random.shuffle(perm)
    d.node([x], perm=perm if perm and d.chance(0.85) else None)


@draws("Shape Size")
def sizes(d: Draft) -> None:
    bound = d.random.randint(-2, 3)
    d.node([d.tensor(least=0)], start=d.pick([None, None, bound]), end=d.pick([None, None, bound + 1]))


@draws("ConstantOfShape")
def constant_of_shape(d: Draft) -> None:
    """Of the sizes of something."""
    x = d.tensor(["float32", "int64"], rank=(1, 4))
    d.op = "Shape"
    (sizes,) = d.node([x])
    d.op = "ConstantOfShape"
    from onnx.numpy_helper import from_array

    value = from_array(d.array(d.pick(["float32", "int64", "bool"]), (1,))) if d.chance(0.7) else None
    (made,) = d.node([sizes], value=value)
    if d.chance(0.5) and d.values[made].dtype == d.values[x].dtype:
        d.op = "Add"
        d.node([x, made])


@draws("Range")
def range_(d: Draft) -> None:
    """As many steps as an axis is long."""
    x = d.tensor(["float32", "int64"], rank=(1, 3), least=1)
    d.op = "Shape"
    (shape,) = d.node([x])
    d.op = "Gather"
    (limit,) = d.node([shape, d.ints(d.random.randrange(d.values[x].ndim))])
    d.op = "Range"
    d.node([d.ints(d.pick([0, 0, 1, -2])), limit, d.ints(d.pick([1, 1, 2, 3]))])


@draws("DepthToSpace SpaceToDepth")
def blocks(d: Draft) -> None:
    size, (n, c, h, w) = d.pick([1, 2, 2, 3]), d.shape(4, 4, 1)
    n, c, h, w = min(n, 3), min(c, 3), min(h, 5), min(w, 5)
    shape = (n, c * size**2, h, w) if d.op == "DepthToSpace" else (n, c, h * size, w * size)
    x = d.leaf(d.dtype(["float32", "float64"]), shape, roles="i")
    d.node([x], blocksize=size, mode=d.pick(["DCR", "CRD", None]))


# --- products ------------------------------------------------------------------------------------------------


@draws("MatMul")
def mat_mul(d: Draft) -> None:
    a = d.tensor(rank=(1, 5))
    shape, dtype = d.values[a].shape, d.values[a].dtype.name
    inner, columns = shape[-1], d.size()
    kind = d.random.random()
    if kind < 0.5:
        other = (inner, columns)
    elif kind < 0.6:
        other = (inner,)
    else:
        batch = [1 if d.chance(0.2) else n for n in shape[:-2]][d.pick([0, 0, 1]) :]
        other = (*(batch or d.shape(0, 1)), inner, columns)
    d.node([a, d.leaf(dtype, other, roles="wwiic")])


@draws("Gemm")
def gemm(d: Draft) -> None:
    a = d.tensor(rank=(2, 2))
    turned, flipped = d.pick([0, 0, 1]), d.pick([0, 1])
    shape, dtype = d.values[a].shape, d.values[a].dtype.name
    rows, inner = shape[::-1] if turned else shape
    columns = max(1, d.size())
    b = d.leaf(dtype, (columns, inner) if flipped else (inner, columns), roles="wwic")
    bias = d.pick([(columns,), (1, columns), (rows, 1), (rows, columns), (), (1,)])
    c = d.leaf(dtype, bias, roles="wwic") if d.opset < 11 or d.chance(0.7) else ""
    given = {name: round(d.random.uniform(-1, 2), 2) for name in ("alpha", "beta") if d.chance(0.3)}
    d.node([a, b, c], transA=turned or None, transB=flipped or None, **given)


@draws("Einsum")
def einsum(d: Draft) -> None:
    x = d.tensor(rank=(0, 4), least=1)
    arrays, terms = [x], ["".join(d.random.sample(string.ascii_letters[:6], d.values[x].ndim))]
    sizes = dict(zip(terms[0], d.values[x].shape, strict=True))
    for _ in range(d.random.choices([0, 1, 2], [2, 6, 1])[0]):
        term = "".join(d.random.sample(string.ascii_letters[:6], d.random.randint(0, 3)))
        sizes = {**{c: d.random.randint(1, 4) for c in term}, **sizes}
        arrays.append(d.leaf(d.values[x].dtype.name, [sizes[c] for c in term], roles="iiwc"))
        terms.append(term)
    if d.values[x].ndim > 1 and len(arrays) == 1 and d.chance(0.2):  # the diagonal
        n = d.random.randint(1, 4)
        arrays, terms, sizes = [d.leaf("float32", (n, n, 2), roles="i")], ["aab"], {"a": n, "b": 2}
    batch = "..." if terms[0] and d.chance(0.15) else ""
    terms[0] = batch + terms[0][len(batch) > 0 :]
    letters = sorted(set("".join(terms)) - set(batch))
    out = "".join(d.random.sample(letters, d.random.randint(0, len(letters))))
    equation = d.pick([",", " , "]).join(terms) + (f"->{batch}{out}" if d.chance(0.8) else "")
    d.node(arrays, equation=equation)
