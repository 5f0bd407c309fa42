"""The layers that an operator says it may become are those that its nodes become."""

from __future__ import annotations

import pytest
from checking import parse, planned

from bridge.build.builder import build
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


def graph(inputs: str, weights: str, nodes: list[str]) -> str:
    """All nodes beside one another."""
    types = ("uint8" if "(bytes)" in node else "float" for node in nodes)
    outputs = ", ".join(f"{kind} y{i}" for i, kind in enumerate(types))
    lines = " ".join(f"y{i} = {node}" for i, node in enumerate(nodes))
    header = '<ir_version: 11, opset_import: ["" : 24, "bridge" : 1]>'
    return f"{header} g ({inputs}) => ({outputs}) <{weights}> {{ {lines} }}"


@pytest.fixture(scope="module")
def made() -> set[tuple[str, str, str]]:
    """Domain, operator and layer of everything that is built of the graphs."""
    graphs = [graph(*ELEMENTWISE), *(graph(*spatial(rank)) for rank in (1, 2, 3))]
    rows = [row for source in graphs for row in build(planned(parse(source, {})).require()).made]
    return {(row.node.domain, row.op, row.layer) for row in rows if row.layer != "keras.ops"}


def test_declared_layers_are_built(made):
    met = {(domain, op) for domain, op, _ in made}
    declared = {(o.domain, o.op_type, name) for o in builders() if o.makes for name in becomes(o)}
    assert len(met) > 30
    assert {row for row in declared if row[:2] in met} == made
