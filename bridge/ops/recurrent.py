"""LSTM, GRU and RNN, batch first: Keras's own layers, or a registered cell for what they cannot say.

ONNX's W (directions, gates * hidden, input), R and B become kernel, recurrent_kernel and bias. Gates: ONNX's LSTM has
i o f c, Keras i f c o; both have z r h for GRU. B holds Wb then Rb: one bias in Keras is their sum, except a GRU with
`linear_before_reset` (`reset_after`), which keeps both as two rows because Rb of h stands inside the reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from bridge import layers
from bridge.graph.functions import DOMAIN
from bridge.graph.recurrent import GATES, LAYERS, RECURRENT, STATES
from bridge.graph.shapes import Dim
from bridge.keras_compat import Config, may_use_cudnn
from bridge.ops.contract import Refused, Site, Step, Tensor
from bridge.ops.recurrent_node import NATIVE, Node, by_path, side_weights
from bridge.ops.registry import op
from bridge.weights.weight import Weight

# Of one direction: arguments of Keras's own layer, or those of the registered cell
Side = tuple[Config, Config | None]


def _sides(node: Node, bias: bool, peephole: bool, projection: int | None) -> list[Side]:
    """How each direction is made; both alike, so that the paths of their variables are."""
    natives = [node.native(side) for side in range(node.directions)]
    if None in natives or peephole or projection is not None:
        return [({}, node.custom(side, peephole, projection, bias)) for side in range(node.directions)]
    return [(config | {"use_bias": bias}, None) for config in natives if config is not None]


def _one(name: str, cls: type, config: Config, cell: Config | None, **common: Any) -> keras.Layer:
    """One direction: a Keras layer, or `RNN` around the registered cell."""
    dtype = common.get("dtype")
    if cell is None:
        return cls(**config, name=name, **common)
    inner = layers.Cell(**cell, **({"dtype": dtype} if dtype else {}))
    return keras.layers.RNN(inner, name=name, **common)


def _forward(*, name: str, native: type, sides: list[Side], **common: Any) -> keras.Layer:
    return _one(name, native, *sides[0], **common)


def _bidirectional(*, name: str, native: type, sides: list[Side], **common: Any) -> keras.Layer:
    dtype = {"dtype": common["dtype"]} if "dtype" in common else {}
    inner = native.__name__.lower()
    forward = _one(inner, native, *sides[0], **common)
    backward = None
    if sides[1] != sides[0]:
        backward = _one(inner, native, *sides[1], go_backwards=True, **common)
    return keras.layers.Bidirectional(forward, backward_layer=backward, name=name, **dtype)


def _run(site: Site, node: Node, x, w, r, b, lens, p, states, projection: Weight | None = None):
    """Build the layer and call it. Gives Y, the final states, and the joined last hidden states."""
    states = _started(states, lens)
    if not all(isinstance(value, Weight) for value in (w, r, b, p) if value is not None):
        return _run_with_tensors(site, node, x, w, r, b, lens, p, states)
    variables = by_path([side_weights(node, side, w, r, b, p, projection) for side in range(node.directions)])
    sides = _sides(node, b is not None, p is not None, None if projection is None else projection.dims[1])
    count = len(STATES[node.mode]) * node.directions
    common: Config = {"return_sequences": site.used(0)}
    # the last output is the final state, except of a sequence and of rows that end before the time axis does
    last_is_state = site.used(1 + count) and (common["return_sequences"] or lens is not None)
    common["return_state"] = last_is_state or any(site.used(1 + i) for i in range(count))
    if node.direction == "reverse":
        common["go_backwards"] = True
    if node.stateful:
        common["stateful"] = True
    call: Config = {}
    if lens is not None:
        call["mask"] = _inside(x, lens)
        common["zero_output_for_mask"] = common["return_sequences"]
    if sides[0][1] is None and node.mode != "RNN" and (lens is not None or not may_use_cudnn(site.dtype)):
        common["use_cudnn"] = False  # it refuses rows of length zero
    if states:
        call["initial_state"] = states
    make = _bidirectional if node.directions == 2 else _forward
    layer = site.layer(make, native=NATIVE[node.mode][0], sides=sides, weights=variables, **common)
    results = layer(x, **call)
    y, *finals = results if common["return_state"] else [results]
    if node.direction == "reverse" and common["return_sequences"]:
        y = ops.flip(y, axis=1)
    if lens is not None and common["return_sequences"]:
        inside = ops.cast(call["mask"], y.dtype)  # the mask ends here: not for losses or layers after
        y = y * ops.expand_dims(inside, -1)
    last = _last(node, finals) if last_is_state else y
    return [y, *(finals or [None] * count), last]


def _last(node: Node, finals: list[Tensor]) -> Tensor:
    """The final hidden states, joined like Y."""
    hidden = finals[:: len(STATES[node.mode])]
    return hidden[0] if len(hidden) == 1 else ops.concatenate(hidden, axis=-1)


def _inside(x, lens):
    """(batch, time): whether a step lies within its row's length."""
    clock = ops.cumsum(ops.ones_like(x[:, :, 0], dtype="int32"), axis=1)
    return clock <= ops.expand_dims(ops.cast(lens, "int32"), 1)


def _started(states, lens):
    """The given states; zero for rows without a step, whose final states are zero in ONNX whatever they start from."""
    if lens is None:
        return list(states)
    rows = ops.expand_dims(ops.cast(lens, "int32") > 0, 1)
    return [ops.where(rows, state, ops.zeros_like(state)) for state in states]


def _run_with_tensors(site: Site, node: Node, x, w, r, b, lens, p, states):
    """Weights that the graph computes or is given: a registered layer that takes them as inputs."""
    if node.stateful:
        raise Refused("in pieces, its weights are computed, and Keras's stateful layers have their own")
    given = [value for value in (w, r, b, lens, p) if value is not None]
    layer = site.layer(
        layers.Recurrent,
        mode=node.mode,
        units=node.hidden_size,
        direction=node.direction,
        functions=[node.functions(side) for side in range(node.directions)],
        clip=node.clip or None,
        input_forget=bool(node.input_forget),
        reset_after=bool(node.linear_before_reset),
        has=[value is not None for value in (w, r, b, lens, p)],
    )
    tensors = [site.tensor(v) if isinstance(v, Weight) else v for v in given]
    y, *finals = layer([x, *tensors, *states])
    return [y, *finals, _last(node, finals)]


def _names(mode: str, directions: int) -> list[str]:
    return [layer.name for layer in LAYERS if (layer.mode, layer.directions) == (mode, directions)]


def _one_way(mode: str) -> tuple[type, ...]:
    """The layers that a sequence may go through, from one end."""
    return NATIVE[mode][0], keras.layers.RNN, layers.Recurrent


BOTH_WAYS = keras.layers.Bidirectional, layers.Recurrent


def _check_sizes(step: Step) -> str | None:
    """Weights of other sizes than the attributes say, which a runtime refuses when it runs."""
    layer, hidden = RECURRENT[step.node.op_type], step.argument("hidden_size")
    rows = len(GATES[layer.mode, "onnx"]) * hidden
    fitting = {"w": (rows, step.shape()[-1]), "r": (rows, hidden), "b": (2 * rows,)}
    for name, sizes in fitting.items():
        weight, wanted = step.argument(name), [layer.directions, *sizes]
        if isinstance(weight, Weight) and not _fits(weight.dims, wanted):
            return f"its {name.upper()} has the sizes {list(weight.dims)}, and {wanted} would fit"
    return None


def _fits(have: Sequence[int], want: Sequence[Dim]) -> bool:
    """Whether these are the sizes that are wanted, as far as those are known."""
    return len(have) == len(want) and all(
        a == b for a, b in zip(have, want, strict=True) if isinstance(b, int)
    )


@op(*_names("LSTM", 1), domain=DOMAIN, check=_check_sizes, makes=_one_way("LSTM"))
@op(*_names("LSTM", 2), domain=DOMAIN, check=_check_sizes, makes=BOTH_WAYS)
def lstm(
    site: Site, x, w: Weight | Tensor, r: Weight | Tensor, b: Weight | Tensor | None = None, lens=None,
    p: Weight | Tensor | None = None,
    *states,
    hidden_size, direction="forward", activations=None, activation_alpha=None, activation_beta=None, clip=None,
    input_forget=0,
    stateful=0,
):  # fmt: skip
    node = Node("LSTM", hidden_size, direction, activations, activation_alpha, activation_beta, clip, input_forget,
                stateful=stateful)  # fmt: skip
    return _run(site, node, x, w, r, b, lens, p, states)


@op(*_names("GRU", 1), domain=DOMAIN, check=_check_sizes, makes=_one_way("GRU"))
@op(*_names("GRU", 2), domain=DOMAIN, check=_check_sizes, makes=BOTH_WAYS)
def gru(
    site: Site, x, w: Weight | Tensor, r: Weight | Tensor, b: Weight | Tensor | None = None, lens=None, *states,
    hidden_size, direction="forward", activations=None, activation_alpha=None, activation_beta=None, clip=None,
    linear_before_reset=0,
    stateful=0,
):  # fmt: skip
    node = Node("GRU", hidden_size, direction, activations, activation_alpha, activation_beta, clip,
                linear_before_reset=linear_before_reset, stateful=stateful)  # fmt: skip
    return _run(site, node, x, w, r, b, lens, None, states)


@op(*_names("RNN", 1), domain=DOMAIN, check=_check_sizes, makes=_one_way("RNN"))
@op(*_names("RNN", 2), domain=DOMAIN, check=_check_sizes, makes=BOTH_WAYS)
def rnn(
    site: Site, x, w: Weight | Tensor, r: Weight | Tensor, b: Weight | Tensor | None = None, lens=None, *states,
    hidden_size, direction="forward", activations=None, activation_alpha=None, activation_beta=None, clip=None,
    stateful=0,
):  # fmt: skip
    node = Node(
        "RNN", hidden_size, direction, activations, activation_alpha, activation_beta, clip, stateful=stateful
    )
    return _run(site, node, x, w, r, b, lens, None, states)


def _lengths_and_state(step: Step) -> str | None:
    if step.node.op_type == "LSTMPFrom" and step.argument("lens") is not None:
        return "a projected LSTM over packed sequences from a given state; start it from zero, or do not pack"
    return None


@op(
    "LSTMP",
    "LSTMPFrom",
    domain=DOMAIN,
    check=_lengths_and_state,
    makes=(keras.layers.RNN, keras.layers.Bidirectional),
)
def lstmp(
    site: Site, x, w: Weight, r: Weight, b: Weight, lens, p: Weight, *states, hidden_size, direction="forward",
    stateful=0,
):  # fmt: skip
    """torch's projected LSTM, in ONNX's layout: X (time, batch, input), Y (time, directions, batch, projection)."""
    node = Node("LSTM", hidden_size, direction, stateful=stateful)
    given = [state[side] for side in range(node.directions) for state in states]
    y, *finals, _ = _run(site, node, ops.transpose(x, (1, 0, 2)), w, r, b, lens, None, given, projection=p)
    if site.used(0):
        sides = ops.split(y, node.directions, axis=-1)
        y = ops.stack([ops.transpose(side, (1, 0, 2)) for side in sides], axis=1)
    h, c = (ops.stack(finals[i::2], axis=0) if finals[i] is not None else None for i in (0, 1))
    return y, h, c


def _cell(site: Site, node: Node, x, w, r, b, p, states):
    """One step with a cell; a cell stepped by hand is one layer called at every step."""
    weights = side_weights(node, 0, w, r, b, p)
    config = node.native(0)
    if config is None or p is not None:
        config = node.custom(0, p is not None, None, b is not None)
        layer = site.layer(layers.Cell, weights=weights, **config)
    else:
        layer = site.layer(NATIVE[node.mode][1], use_bias=b is not None, weights=weights, **config)
    _, finals = layer(x, list(states))
    return list(finals)


@op("LSTMCell", domain=DOMAIN, makes=(NATIVE["LSTM"][1], layers.Cell))
def lstm_cell(
    site: Site, x, w: Weight, r: Weight, b: Weight, p: Weight, *states,
    hidden_size, direction="forward", activations=None, activation_alpha=None, activation_beta=None, clip=None,
    input_forget=0,
):  # fmt: skip
    node = Node(
        "LSTM", hidden_size, direction, activations, activation_alpha, activation_beta, clip, input_forget
    )
    return _cell(site, node, x, w, r, b, p, states)


@op("GRUCell", domain=DOMAIN, makes=(NATIVE["GRU"][1], layers.Cell))
def gru_cell(
    site: Site, x, w: Weight, r: Weight, b: Weight, *states,
    hidden_size, direction="forward", activations=None, activation_alpha=None, activation_beta=None, clip=None,
    linear_before_reset=0,
):  # fmt: skip
    node = Node("GRU", hidden_size, direction, activations, activation_alpha, activation_beta, clip,
                linear_before_reset=linear_before_reset)  # fmt: skip
    return _cell(site, node, x, w, r, b, None, states)


@op("RNNCell", domain=DOMAIN, makes=(NATIVE["RNN"][1], layers.Cell))
def rnn_cell(
    site: Site, x, w: Weight, r: Weight, b: Weight, *states,
    hidden_size, direction="forward", activations=None, activation_alpha=None, activation_beta=None, clip=None,
):  # fmt: skip
    node = Node("RNN", hidden_size, direction, activations, activation_alpha, activation_beta, clip)
    return _cell(site, node, x, w, r, b, None, states)
