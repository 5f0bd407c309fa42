"""The layers that operators say their nodes may become are those that nodes become, and no others."""

from __future__ import annotations

import pytest
from checking import parse, planned

from bridge.build.builder import build
from bridge.graph.functions import functions
from bridge.graph.recurrent import CELLS, GATES, LAYERS, STATES, RecurrentOp
from bridge.ops import builders
from bridge.ops.catalogue import becomes

ELEMENTWISE = "float[N, 6] x, float[N, 6] z", "float[6] s, float low = {0}, float high = {6}", [
    *(f"{op} (x)" for op in (
        "Celu", "Elu", "HardSigmoid <alpha = 0.166666667, beta = 0.5>", "HardSwish", "LeakyRelu", "Mish", "Relu", "Selu",
        "Sigmoid", "Softmax", "Softplus", "Softsign", "Tanh", "Gelu", "bridge.LogSigmoid", "bridge.Silu", "Swish",
    )),
    "PRelu (x, s)", "Clip (x, low, high)",
    *(f"{op} (x, z)" for op in ("Add", "Mul", "Sub", "Max", "Min", "Sum", "Mean")),
]  # fmt: skip


def spatial(rank: int) -> tuple[str, str, list[str]]:
    """Nodes on images of so many axes: with pads that Keras's layers have, with others, and with such that cut off."""
    sizes, window, double = (", ".join([size] * rank) for size in ("8", "3", "2"))
    kernel = f"kernel_shape = [{window}]"
    more, less = (
        f"pads = [{', '.join([first] * rank + [last] * rank)}]" for first, last in (("1", "2"), ("-1", "0"))
    )
    weights = f"float[6, 4, {window}] w, float[4, 1, {window}] d, float[4, 6, {window}] t, float[{rank + 2}] k = {{1, 1, {double}}}"
    return f"float[2, 4, {sizes}] x, uint8[2, 4, {sizes}] bytes", weights, [
        "Conv (x, w)", "Conv <group = 4> (x, d)", f"Conv <{more}> (x, w)", f"Conv <{less}> (x, w)",
        "ConvTranspose (x, t)", f"ConvTranspose <{more}> (x, t)", f"ConvTranspose <{less}> (x, t)",
        *(f"{op} <{kernel}{pads}> (x)" for op, padded in (
            ("AveragePool", f", {more}, count_include_pad = 1"), ("LpPool", f", {more}"), ("MaxPool", f", {more}"),
        ) for pads in ("", padded, f", {less}")),
        f"MaxPool <{kernel}, {more}> (bytes)", "GlobalAveragePool (x)", "GlobalMaxPool (x)",
        'Resize <nearest_mode = "floor", coordinate_transformation_mode = "asymmetric"> (x, , k)',
    ]  # fmt: skip


DIRECTIONS = {1: "forward", 2: "bidirectional"}


def recurrent(layer: RecurrentOp) -> tuple[str, str, list[str]]:
    """A layer as Keras's own, one that Keras has no activation for, one whose matrix the graph is given; cells."""
    gates, sides = len(GATES[layer.mode, "onnx"]), layer.directions
    kinds = STATES[layer.mode]
    direction = DIRECTIONS[sides]
    states = [f"{kind}{side}" for side in range(sides) for kind in kinds] if layer.given_state else []
    x = "float[N, 3] x" if layer.is_cell else "float[N, T, 3] x"
    inputs = ", ".join(
        [x, f"float[{sides}, {gates * 5}, 3] v", *(f"float[N, 5] {state}" for state in states)]
    )
    weights = (
        f"float[{sides}, {gates * 5}, 3] w, float[{sides}, {gates * 5}, 5] r, float[{sides}, {gates * 10}] b, "
        f"float[{sides}, 15] p"
    )

    def node(w: str, more: str = "") -> str:
        lengths = [] if layer.is_cell else [""]
        peepholes = ["p" if layer.is_cell and more else ""] if layer.mode == "LSTM" else []
        given = ", ".join([w, "r", "b", *lengths, *peepholes, *states])
        return f'bridge.{layer.name} <hidden_size = 5, direction = "{direction}"{more}> (x, {given})'

    return inputs, weights, [node("w"), node("w", ", clip = 0.5"), *([] if layer.is_cell else [node("v")])]


def projected(directions: int) -> tuple[str, str, list[str]]:
    given = f'<hidden_size = 5, direction = "{DIRECTIONS[directions]}"> (x, w, r, b, , p'
    return (
        f"float[T, N, 3] x, float[{directions}, N, 2] h, float[{directions}, N, 5] c",
        f"float[{directions}, 20, 3] w, float[{directions}, 20, 2] r, float[{directions}, 40] b, float[{directions}, 2, 5] p",
        [f"bridge.LSTMP {given})", f"bridge.LSTMPFrom {given}, h, c)"],
    )


PADS = ", ".join(
    f"int64[{2 * (rank + 2)}] p{rank} = {{{', '.join(map(str, [0, *[1] * rank, 0] * 2))}}}"
    for rank in (1, 2, 3)
)
IMAGES = "float[N, 8, 4] a, float[N, 8, 8, 4] b, float[N, 8, 8, 8, 4] c, float[N, 4] d", (
    f"{PADS}, float[8] s, float[8] o, float[8] m, float[8] v, float rate = {{0.25}}, "
    "int64[1] i = {1}, int64[2] ij = {1, 2}, int64[3] ijk = {1, 2, 3}"
), [
    *(f"Pad ({x}, p{rank})" for rank, x in enumerate("abc", 1)),
    *(f"{op} <keepdims = 0> ({x}, {axes})"
      for op in ("ReduceMax", "ReduceMean") for x, axes in zip("abc", ("i", "ij", "ijk"), strict=True)),
    *(f"bridge.FeatureDropout <ratio = 0.25> ({x})" for x in "abcd"), "bridge.AlphaDropout <ratio = 0.25> (a)",
    "bridge.FeatureAlphaDropout <ratio = 0.25> (b)", "Dropout (b, rate)", "Concat <axis = 1> (b, b)",
    "BatchNormalization (b, s, o, m, v)", "GroupNormalization <num_groups = 2> (b, s, o)",
    "InstanceNormalization (b, s, o)",
]  # fmt: skip
PIECES = "float[2, T, 4] x", "", ["bridge.Past <axis = 1, frames = 2, fill = 0.0> (x)"]
SEQUENCES = "float[N, T, 4] x, int64[N, T] ids, int64[N, 3] places, bool yes, bool go, int64 count, float[N, 4] s", (
    "float[4, 6] w, float[6] b, float[4] g, float[9, 4] table, float[9, 2, 3] blocks, float[9] numbers, float[4, 4] e, float[4] z"
), [
    "bridge.Linear (x, w, b)", "MatMul (x, e)", "bridge.TiedEmbedding (table, ids)", "bridge.TiedProjection (x, table)",
    "Gather (blocks, ids)", "Gather (numbers, places)", "LayerNormalization (x, g, z)", "RMSNormalization (x, g)",
    "Attention <q_num_heads = 2, kv_num_heads = 2> (x, x, x)",
    *(f"bridge.MultiHeadAttention <heads = {heads}, dropout = 0.25, is_causal = 0> (x, x, x, e, e, e, e, z, z, z, z)"
      for heads in (2, 4)),
    "If (yes) <then_branch = a () => (float[N, 4] p) { p = Abs (s) }, else_branch = o () => (float[N, 4] q) { q = Neg (s) }>",
    "Loop (count, go, s) <body = step (int64 k, bool on, float[N, 4] d) => (bool still, float[N, 4] f) "
    "{ still = Identity (on) f = Sin (d) }>",
    "Scan <num_scan_inputs = 1, scan_input_axes = [1], body = run (float[N, 4] d, float[N, 4] l) "
    "=> (float[N, 4] f) { f = Max (d, l) }> (s, x)",
]  # fmt: skip
SIZES = (  # of what a graph with free axes reads them from
    "float[N, T, 4] x, float[N, 2, 3] fixed, float[1, 3] row, float[1, 2, 3] slab, float[N, 4, 1, 1] dot, "
    "float[N, C, 1, 1] dots, float[N, 5, 6, 2] grid, float[N, 1, 4] column, float[N, 1, 4, 5] columns, int64[K, 1, 2] pairs, "
    "float[K, 1, 4] one, float[K, 1, 4, 5] many, float[R, 4] boxes, int64[R] of, float[N, 2, 1, 1] away, "
    "float[N, 4, H, W] image, float[N, 2, H, W] aways"
), (
    "float[9, 2, 3] blocks, int64[1] first = {0}, int64[1] one_time = {1}, int64[2] ones = {1, 1}, int64[2] flat = {0, -1}, "
    "int64[3] halves = {0, -1, 3}, float[2, 4, 1, 1] kernel"
), [
    "Reshape (fixed, flat)", "Reshape (x, halves)", "Flatten (fixed)", "Flatten (x)", "Tile (row, by_two)",
    "Tile (slab, by_three)", "Slice (blocks, first, t, first)", "GridSample (dot, grid)", "GridSample (dots, grid)",
    *(f"RoiAlign <sampling_ratio = 1> ({x}, boxes, of)" for x in ("dot", "dots")),
    "DeformConv (dot, kernel, away)", "DeformConv (image, kernel, aways)",
    "GatherND (column, pairs)", "GatherND (columns, pairs)", "ScatterND (column, pairs, one)", "ScatterND (columns, pairs, many)",
], (
    "n = Shape <start = 0, end = 1> (x) t = Shape <start = 1, end = 2> (x) by_two = Concat <axis = 0> (n, one_time) "
    "by_three = Concat <axis = 0> (n, ones)"
)  # fmt: skip


def others(node: str, number: int) -> list[str]:
    """The outputs after the first, all of which an operator with a body has."""
    count = next((len(f.output) for f in functions() if node.startswith(f"bridge.{f.name} ")), 1)
    return [f"y{number}_{place}" for place in range(1, count)]


def graph(inputs: str, weights: str, nodes: list[str], before: str = "") -> str:
    """All nodes beside one another, behind what they read."""
    types = ("uint8" if "(bytes)" in node else "float" for node in nodes)
    outputs = ", ".join(f"{kind} y{i}" for i, kind in enumerate(types))
    lines = " ".join(f"{', '.join([f'y{i}', *others(node, i)])} = {node}" for i, node in enumerate(nodes))
    opset = 24 if "Swish" in lines else 23  # which has no Swish, and is that of our operators' bodies
    header = f'<ir_version: 11, opset_import: ["" : {opset}, "bridge" : 1]>'
    return f"{header} g ({inputs}) => ({outputs}) <{weights}> {{ {before} {lines} }}"


GRAPHS = [
    ELEMENTWISE,
    *(spatial(rank) for rank in (1, 2, 3)),
    *(recurrent(layer) for layer in (*LAYERS, *CELLS)),
    *(projected(directions) for directions in (1, 2)),
    IMAGES,
    PIECES,
    SEQUENCES,
    SIZES,
]


@pytest.fixture(scope="module")
def made() -> set[tuple[str, str, str]]:
    """Domain, operator and layer of everything that is built of the graphs."""
    graphs = [graph(*parts) for parts in GRAPHS]
    rows = [row for source in graphs for row in build(planned(parse(source, {})).require()).made]
    return {(row.node.domain, row.op, row.layer) for row in rows if row.layer != "keras.ops"}


def test_declared_layers_are_built(made):
    declared = {(o.domain, o.op_type, name) for o in builders() if o.makes for name in becomes(o)}
    assert sorted(declared - made) == [] == sorted(made - declared)
