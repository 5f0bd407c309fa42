"""The operators of our own domain, each with a body in standard ONNX, so that onnxruntime can run any graph of ours.

Recurrent layers as Keras has them, batch first and with the directions joined:

    LSTM, GRU, RNN                 X (batch, time, input) -> Y (batch, time, hidden), the final states, last
    BiLSTM, BiGRU, BiRNN           the same with both directions, Y (batch, time, 2 * hidden)
    LSTMFrom, BiLSTMFrom, …        the same, starting from given states
    LSTMCell, GRUCell, RNNCell     one step, x (batch, input) and the states -> the new states

`last` is the final hidden states, joined like Y (what Keras gives without `return_sequences`).
States are (batch, hidden) each, in Keras's order: h, c; both directions: forward h, c, then backward h, c.
W, R, B, P and the attributes are ONNX's. `LSTMP` and `LSTMPFrom` are torch's projected LSTM in ONNX's own layout
(time first).
`MultiHeadAttention` is torch's: queries, keys and values (batch, length, features), a matrix (in, out) and a bias for
each and for the output -> y, and the weights of each head (batch, heads, queries, keys). Its dropout is for training.
`Linear` is x W + b, `Silu` is x times its sigmoid. `TiedEmbedding` looks up rows of w, `TiedProjection` is x times
w transposed, for one w. `Parameter` is a parameter as a tensor. `StopGradient` is x, and nothing behind it trains.
`WeightNorm` and `SpectralNorm` are torch's, of a direction and its length, of a matrix and the two sides of its norm.
`Log1p`, `Expm1`, `LogSigmoid`, `LogAddExp` and `Atan2` are what their names say, over the whole range of a number.
`Past` is x with what stood in front of the piece: of the first, which onnxruntime runs, `frames` times `fill`. A layer
that is `stateful` starts from the state of the last piece likewise.
`FeatureDropout` is torch's Dropout1d/2d/3d; `AlphaDropout` and `FeatureAlphaDropout` keep mean and variance.

Projections in standard ONNX: with u = o * tanh(c) and h = Wr u, the recurrence R h is (R Wr) u, an ordinary LSTM
over u. Only the first step sees a given h0, so R h0 enters as an input of that one step
(the last one backwards, of whole sequences).
"""

from __future__ import annotations

import functools

import onnx
import onnx.parser
import onnx_ir as ir

from bridge.graph.recurrent import LAYERS, STATES, RecurrentOp
from bridge.graph.rewriting import all_nodes, is_onnx

DOMAIN = "bridge"
OPSET = 23  # of ONNX's own operators, in these bodies and in every graph that the passes see
KEEPS_STATE = "stateful"  # of a layer: what onnxruntime knows nothing of
EXTRA = {"LSTM": {"input_forget": "int"}, "GRU": {"linear_before_reset": "int"}, "RNN": {}}
COMMON = {
    "hidden_size": "int",
    "direction": "string",
    "activations": "strings",
    "activation_alpha": "floats",
    "activation_beta": "floats",
    "clip": "float",
}


def _cell(op: str) -> str:
    kinds = STATES[op]
    peepholes = ", P" if op == "LSTM" else ""
    attributes = COMMON | EXTRA[op]
    passed = ", ".join(f"{name}: {kind} = @{name}" for name, kind in attributes.items())
    given = ", ".join(f"{kind}0" for kind in kinds)
    lifted = "\n".join(f"{kind}0_u = Unsqueeze ({kind}0, zero)" for kind in kinds)
    lowered = "\n".join(f"{kind} = Squeeze ({kind}_u, zero)" for kind in kinds)
    return f"""
{op}Cell <{", ".join(attributes)}> (x, W, R, B{peepholes}, {given}) => ({", ".join(kinds)})
{{
    zero = Constant <value_ints = [0]> ()
    x_u = Unsqueeze (x, zero)
    {lifted}
    Y, {", ".join(f"{kind}_u" for kind in kinds)} = {op} <{passed}>
        (x_u, W, R, B, , {", ".join(f"{kind}0_u" for kind in kinds)}{peepholes})
    {lowered}
}}"""


_JOINED = {  # as exporters write it
    1: [
        "one = Constant <value_ints = [1]> ()",
        "Yj = Squeeze (Yt, one)",
        "Y = Transpose <perm = [1, 0, 2]> (Yj)",
    ],
    2: [
        "Yb = Transpose <perm = [0, 2, 1, 3]> (Yt)",
        "joined = Constant <value_ints = [0, 0, -1]> ()",
        "Yj = Reshape (Yb, joined)",
        "Y = Transpose <perm = [1, 0, 2]> (Yj)",
        "side_0 = Constant <value_int = 0> ()",
        "side_1 = Constant <value_int = 1> ()",
    ],
}
_LAST = {1: "Identity (h_0)", 2: "Concat <axis = 1> (h_0, h_1)"}


def _stacked(kind: str, directions: int) -> list[str]:
    """The states that a layer starts from, with the directions on an axis."""
    if directions == 1:
        return [f"{kind}0 = Unsqueeze ({kind}0_0, zero)"]
    lifted = [f"{kind}0_{side}_u = Unsqueeze ({kind}0_{side}, zero)" for side in (0, 1)]
    return [*lifted, f"{kind}0 = Concat <axis = 0> ({kind}0_0_u, {kind}0_1_u)"]


def _apart(kind: str, directions: int) -> list[str]:
    """The final states of each direction."""
    if directions == 1:
        return [f"{kind}_0 = Squeeze ({kind}_all, zero)"]
    return [f"{kind}_{side} = Gather <axis = 0> ({kind}_all, side_{side})" for side in (0, 1)]


def _recurrent(layer: RecurrentOp) -> str:
    op, directions, given_state = layer.mode, layer.directions, layer.given_state
    sides = range(directions)
    kinds = STATES[op]
    peepholes = ", P" if op == "LSTM" else ""
    attributes = COMMON | EXTRA[op]
    given = [f"{kind}0_{side}" for side in sides for kind in kinds] if given_state else []
    finals = [f"{kind}_{side}" for side in sides for kind in kinds]
    lines = ["Xt = Transpose <perm = [1, 0, 2]> (X)", "zero = Constant <value_ints = [0]> ()"]
    for kind in kinds if given_state else ():
        lines += _stacked(kind, directions)
    initial = [f"{kind}0" if given_state else "" for kind in kinds]
    passed = ", ".join(f"{name}: {kind} = @{name}" for name, kind in attributes.items())
    outputs = ", ".join(f"{kind}_all" for kind in kinds)
    lines.append(f"Yt, {outputs} = {op} <{passed}> (Xt, W, R, B, lens, {', '.join(initial)}{peepholes})")
    lines += _JOINED[directions]
    for kind in kinds:
        lines += _apart(kind, directions)
    lines.append(f"last = {_LAST[directions]}")
    body = "\n".join(lines)
    return f"""
{layer.name} <{", ".join((*attributes, KEEPS_STATE))}>
(X, W, R, B, lens{peepholes}{"".join(f", {name}" for name in given)}) => (Y, {", ".join(finals)}, last)
{{ {body} }}"""


_PROJECT = """
    P_t = Transpose <perm = [0, 2, 1]> (P)
    Y = MatMul (Y_u, P_t)
    Y_h = MatMul (Y_u_h, P_t)
}"""

_LSTMP = (
    """
LSTMP <hidden_size, direction, stateful> (X, W, R, B, lens, P) => (Y, Y_h, Y_c)
{
    R_u = MatMul (R, P)
    Y_u, Y_u_h, Y_c = LSTM <hidden_size: int = @hidden_size, direction: string = @direction> (X, W, R_u, B, lens)
"""
    + _PROJECT
)

_LSTMP_FROM = (
    """
LSTMPFrom <hidden_size, direction, stateful> (X, W, R, B, lens, P, h0, c0) => (Y, Y_h, Y_c)
{
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    first = Constant <value_ints = [0]> ()
    second = Constant <value_ints = [1]> ()
    third = Constant <value_ints = [2]> ()
    last = Constant <value_ints = [-1]> ()
    x_shape = Shape (X)
    time = Gather <axis = 0> (x_shape, zero)
    r_shape = Shape (R)
    directions = Slice (r_shape, first, second)
    rows = Slice (r_shape, second, third)
    columns = Mul (directions, rows)

    R_u = MatMul (R, P)
    R_t = Transpose <perm = [0, 2, 1]> (R)
    start = MatMul (h0, R_t)

    end = Sub (time, one)
    end_1 = Unsqueeze (end, zero)
    ends = Concat <axis = 0> (first, end_1)
    at = Slice (ends, first, directions)
    clock = Range (zero, time, one)
    clock_2 = Unsqueeze (clock, last)
    hit = Equal (clock_2, at)
    hit_x = CastLike (hit, X)
    tail = Constant <value_ints = [2, 3]> ()
    hit_4 = Unsqueeze (hit_x, tail)
    pushed = Mul (hit_4, start)
    pushed_b = Transpose <perm = [0, 2, 1, 3]> (pushed)
    joined = Constant <value_ints = [0, 0, -1]> ()
    extra = Reshape (pushed_b, joined)
    X_u = Concat <axis = 2> (X, extra)

    square = Concat <axis = 0> (columns, columns)
    blank = ConstantOfShape (square)
    eye = EyeLike (blank)
    eye_x = CastLike (eye, W)
    stacked = Concat <axis = 0> (directions, rows, columns)
    eye_3 = Reshape (eye_x, stacked)
    W_u = Concat <axis = 2> (W, eye_3)

    Y_u, Y_u_h, Y_c = LSTM <hidden_size: int = @hidden_size, direction: string = @direction>
        (X_u, W_u, R_u, B, lens, , c0)
"""
    + _PROJECT
)

_DROPOUTS = tuple(
    f"""
{name} <ratio> (x) => (y) {{ y = Identity (x) }}"""
    for name in ("FeatureDropout", "AlphaDropout", "FeatureAlphaDropout")
)

_LINEAR = """
Linear (x, w, b) => (y) { xw = MatMul (x, w)  y = Add (xw, b) }"""

_TIED_EMBEDDING = """
TiedEmbedding (w, ids) => (y) { y = Gather <axis = 0> (w, ids) }"""

_TIED_PROJECTION = """
TiedProjection (x, w) => (y) { wt = Transpose <perm = [1, 0]> (w)  y = MatMul (x, wt) }"""

_PARAMETER = """
Parameter (w) => (y) { y = Identity (w) }"""

_STOP_GRADIENT = """
StopGradient (x) => (y) { y = Identity (x) }"""

_WEIGHT_NORM = """
WeightNorm <axes> (v, g) => (w)
{
    along = Constant <value_ints: ints = @axes> ()
    norm = ReduceL2 <keepdims = 1> (v, along)  scale = Div (g, norm)  product = Mul (v, scale)
    size = Shape (v)  w = Reshape (product, size)
}"""

_SPECTRAL_NORM = """
SpectralNorm <perm> (w, u, v) => (y)
{
    turned = Transpose <perm: ints = @perm> (w)  rows = Flatten <axis = 1> (turned)
    along = MatMul (rows, v)  sigma = MatMul (u, along)  y = Div (w, sigma)
}"""

_PAST = """
Past <axis, frames, fill> (x) => (y) {
    zero = Constant <value_ints = [0]> ()  count = Constant <value_int: int = @frames> ()
    place = Constant <value_int: int = @axis> ()  number = Constant <value_float: float = @fill> ()
    before = Unsqueeze (count, zero)  pads = Concat <axis = 0> (before, zero)  axes = Unsqueeze (place, zero)
    filler = CastLike (number, x)  y = Pad (x, pads, filler, axes)
}"""

_SILU = """
Silu (x) => (y) { s = Sigmoid (x)  y = Mul (x, s) }"""

_LOG1P = """
Log1p (x) => (y)
{
    zero = Constant <value_float = 0.0> ()  none = CastLike (zero, x)
    one = Constant <value_float = 1.0> ()  unit = CastLike (one, x)
    u = Add (unit, x)  rounded = Sub (u, unit)  log = Log (u)
    slope = Div (x, rounded)  mended = Mul (log, slope)
    small = Equal (rounded, none)  near = Where (small, x, mended)
    far = IsInf (u)  y = Where (far, log, near)
}"""

_EXPM1 = """
Expm1 (x) => (y)
{
    half = Constant <value_float = 0.5> ()  half_x = CastLike (half, x)
    one = Constant <value_float = 1.0> ()  unit = CastLike (one, x)
    part = Mul (half_x, x)  tanh = Tanh (part)  exp = Exp (x)  above = Add (exp, unit)  y = Mul (tanh, above)
}"""

_LOG_SIGMOID = """
LogSigmoid (x) => (y) { other = Neg (x)  loss = Softplus (other)  y = Neg (loss) }"""

_LOG_ADD_EXP = """
LogAddExp (a, b) => (y)
{
    zero = Constant <value_float = 0.0> ()  none = CastLike (zero, a)
    higher = Max (a, b)  distance = Sub (a, b)  apart = Abs (distance)
    same = Equal (a, b)  gap = Where (same, none, apart)
    down = Neg (gap)  more = Softplus (down)  y = Add (higher, more)
}"""

_ATAN2 = """
Atan2 (y, x) => (z)
{
    zero = Constant <value_float = 0.0> ()  none = CastLike (zero, x)
    one = Constant <value_float = 1.0> ()  unit = CastLike (one, x)  minus = Neg (unit)
    pi = Constant <value = double {3.141592653589793}> ()  half_turn = CastLike (pi, x)  other_turn = Neg (half_turn)
    inverse_x = Reciprocal (x)  zero_left = Less (inverse_x, none)  side = Where (zero_left, minus, unit)
    inverse_y = Reciprocal (y)  zero_below = Less (inverse_y, none)  under = Less (y, none)
    below = Or (zero_below, under)
    no_x = Equal (x, none)  no_y = Equal (y, none)  none_at_all = And (no_x, no_y)
    upright = Where (no_x, none, x)  along = Where (none_at_all, side, upright)
    far_x = IsInf (x)  far_y = IsInf (y)  far = And (far_x, far_y)
    sign_x = Sign (x)  sign_y = Sign (y)  run = Where (far, sign_x, along)  rise = Where (far, sign_y, y)
    slope = Div (rise, run)  angle = Atan (slope)
    turn = Where (below, other_turn, half_turn)  turned = Add (angle, turn)
    left = Less (run, none)  z = Where (left, turned, angle)
}"""

_FORMULAS = (_LOG1P, _EXPM1, _LOG_SIGMOID, _LOG_ADD_EXP, _ATAN2)

_MULTI_HEAD = """
MultiHeadAttention <heads, dropout, is_causal> (q, k, v, wq, wk, wv, wo, bq, bk, bv, bo) => (y, scores)
{
    xq = MatMul (q, wq)  yq = Add (xq, bq)
    xk = MatMul (k, wk)  yk = Add (xk, bk)
    xv = MatMul (v, wv)  yv = Add (xv, bv)
    a, keys, values, scores = Attention
        <q_num_heads: int = @heads, kv_num_heads: int = @heads, is_causal: int = @is_causal,
         qk_matmul_output_mode: int = 3> (yq, yk, yv)
    xo = MatMul (a, wo)  y = Add (xo, bo)
}"""

_SMALL = (
    *_FORMULAS, _MULTI_HEAD, _LINEAR, _PAST, _SILU, *_DROPOUTS, _TIED_EMBEDDING, _TIED_PROJECTION, _PARAMETER,
    _STOP_GRADIENT, _WEIGHT_NORM, _SPECTRAL_NORM,
)  # fmt: skip


@functools.cache
def functions() -> tuple[onnx.FunctionProto, ...]:
    """The bodies of all operators of our domain."""
    bodies = [*map(_recurrent, LAYERS), *map(_cell, STATES), _LSTMP, _LSTMP_FROM, *_SMALL]
    heading = f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>'
    return tuple(onnx.parser.parse_function(heading + body) for body in bodies)


def is_ours(function: onnx.FunctionProto) -> bool:
    """Whether `function` has the body that we give the operator of its name."""
    ours = next((proto for proto in functions() if proto.name == function.name), None)
    try:
        return ours is not None and _written(ours) == _written(function)
    except ir.serde.SerdeError:  # it has no such body, or none at all
        return False


def _written(function: onnx.FunctionProto) -> bytes:
    """The same for the same function, whether it was parsed or has been ONNX IR."""
    return ir.serde.serialize_function(ir.serde.deserialize_function(function)).SerializeToString()


def is_foreign(node: ir.Node) -> bool:
    """Whether `node` is an operator neither of ONNX nor of ours, of whose results nothing can be inferred."""
    return not is_onnx(node) and node.domain != DOMAIN


def add_functions(model: ir.Model) -> None:
    """Give `model` the bodies of those operators of our domain that it has: every copy of a model copies them."""
    model.opset_imports[DOMAIN] = 1
    used = {node.op_type for node in all_nodes(model) if node.domain == DOMAIN}
    for proto in functions():
        if proto.name in used and (DOMAIN, proto.name, "") not in model.functions:
            function = ir.serde.deserialize_function(proto)
            model.functions[function.identifier()] = function
