"""Sound ONNX models, to be broken: of every kind that a file may hold."""

from __future__ import annotations

import functools
import random

import numpy as np
import onnx

HEAD = '<ir_version: 10, opset_import: ["": 21, "f": 1]>\n'
LAYERS = (
    "g (float[N,3,8,8] x) => (float[N,M] y) <float[4,3,3,3] w, float[4] b> { c = Conv <pads = [1,1,1,1]> (x, w, b) "
    "r = Relu (c) p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (r) y = Flatten (p) }",
    "g (float[N,T,4] x) => (float[N,A] y) <float[4,6] w, float[6] b> { s = Shape (x) "
    "i = Constant <value_ints = [0]> () "
    "n = Gather (s, i) k = Constant <value_ints = [-1]> () d = Concat <axis = 0> (n, k) m = MatMul (x, w) "
    "a = Add (m, b) y = Reshape (a, d) }",
    "g (float[T,N,4] x) => (float[T,D,N,5] y) <float[1,20,4] w, float[1,20,5] r, float[1,40] b> "
    "{ y, h, c = LSTM <hidden_size = 5> (x, w, r, b) }",
    "g (int64[N,T] x) => (float[N,A,6] y) <float[9,6] w, float[6] s, float[6] b> { e = Gather (w, x) "
    "z = LayerNormalization (e, s, b) y = Softmax (z) }",
    "g (float[N,2,4,4] x) => (float[A,B,C,D] y) <float[4] s = {1,1,2,2}, int64[8] p = {0,0,1,1,0,0,1,1}> "
    '{ r = Resize <mode = "nearest"> (x, "", s) y = Pad (r, p) }',
    "g (float[N,6] x) => (float[N,B] y) <int64[2] s = {2,3}, float[1] c = {0.5}, int64[2] t = {1,2}> "
    "{ e = Expand (c, s) f = Tile (e, t) q = ReduceSum (f) a = Mul (x, q) y = f.Twice (a) } "
    '<domain: "f", opset_import: ["": 21]> Twice (x) => (y) { y = Add (x, x) }',
    "g (float[T,N,4] x, int32[N] l) => (float[D,N,5] y, float[T,D,N,3] z) <float[2,15,4] w, float[2,15,5] r, "
    "float[2,30] b, float[1,3,10] v, float[1,3,3] u> "
    '{ a, y = GRU <hidden_size = 5, direction = "bidirectional", linear_before_reset = 1> (x, w, r, b, l) '
    "t = Transpose <perm = [0,2,1,3]> (a) d = Constant <value_ints = [0,0,-1]> () j = Reshape (t, d) "
    'z = RNN <hidden_size = 3, activations = ["Relu"]> (j, v, u, "", l) }',
    "g (float[N,4,6] x) => (float[N,2,A] y) <float[4,1,3] w, float[4] s, float[4] b, float[4] m, float[4] v> "
    "{ c = ConvTranspose <group = 2, strides = [2], output_padding = [1]> (x, w) "
    "a = Constant <value_ints = [2]> () t = ReduceMean <keepdims = 1> (c, a) y = Sub (c, t) }",
    "g (float[N,4,6] x) => (float[N,4,A] y, float[N,4,1] q) <float[4] s, float[4] b, float[4] m, "
    "float[4] v = {1,2,3,4}> { n = BatchNormalization (x, s, b, m, v) "
    'y = AveragePool <kernel_shape = [2], auto_pad = "SAME_UPPER", count_include_pad = 1> (n) '
    "q = GlobalMaxPool (n) }",
    "g (float[N,6] x, bool[N,6] k) => (float[N,3] y, int64[N,3] i, float[A,B] p) <int64[1] n = {3}, int64 e = {1}, "
    "float o = {0.0}, int64[1] u = {1}, int64[1] a = {0}, int64[1] c = {5}> "
    "{ w = Where (k, x, o) y, i = TopK (w, n) s = Slice (x, a, c, u) r = CumSum (s, e) "
    'p = Einsum <equation = "ab,ac->bc"> (r, r) }',
    "g (float[N,T,4] x) => (float[N,T,4] y, float[N,T,3] z) <int64[2] s = {1,3}> "
    "{ p, z = Split <axis = 2> (x, s) d = Shape (x) e = Expand (p, d) y = Add (x, e) }",
)
OTHERS = (
    "g (float[N,4] x, bool c) => (float[N,4] y) { y = If (c) <then_branch = t () => (float[N,4] a) { a = Relu (x) }, "
    "else_branch = e () => (float[N,4] b) { b = Neg (x) }> }",
    "g (float[N,4] x) => (float[N,4] y) { c = Constant <value = bool {1}> () y = If (c) <then_branch = t () => "
    "(float[N,4] a) { a = Relu (x) }, else_branch = e () => (float[N,4] b) { b = f.Twice (x) }> } "
    '<domain: "f", opset_import: ["": 21, "f": 1]> Twice (x) => (y) { z = f.Once (x) y = Add (z, z) } '
    '<domain: "f", opset_import: ["": 21]> Once (x) => (y) { y = Neg (x) }',
    "g (float[N] x, int64 m, bool c) => (float[N] y) { y = Loop (m, c, x) <body = b (int64 i, bool k, float[N] a) => "
    "(bool k2, float[N] a2) { k2 = Identity (k) a2 = Add (a, a) }> }",
    "g (float[N] s, float[T,N] x) => (float[N] y, float[T,N] z) { y, z = Scan <num_scan_inputs = 1, body = b "
    "(float[N] a, float[N] e) => (float[N] a2, float[N] e2) { a2 = Add (a, e) e2 = Identity (a2) }> (s, x) }",
    "g (float[N,4] x) => (float[N,A] y) <float s = {0.1}, uint8 z = {3}, uint8[4,2] t = {1,2,3,4,5,6,7,8}> { "
    "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) i = MatMulInteger (q, t, z) f = Cast <to = 1> (i) "
    "y = Concat <axis = 1> (d, f) }",
    "g (float[N,6] x) => (float[N,2] y) <int64[3] s = {2,2,2}, int64 i = {1}> { q = SplitToSequence <axis = 1> (x, s) "
    "y = SequenceAt (q, i) }",
    "g (float[N] x) => (float[N] y) { o = Optional (x) h = OptionalHasElement (o) y = OptionalGetElement (o) }",
    "g (string[N] x) => (string[N] y) { y = Identity (x) }",
    "g (float[N,4] x) => (float[N,4] x) { }",
    "g (float x) => (float y) { y = Relu (x) }",
)  # fmt: skip


@functools.cache
def layers(index: int) -> onnx.ModelProto:
    return _read(LAYERS[index], index)


@functools.cache
def _other(index: int) -> onnx.ModelProto:
    return _read(OTHERS[index], index)


def base(draw: random.Random) -> onnx.ModelProto:
    """A model of layers, of what has no layers, or a random graph over every operator."""
    kind = draw.random()
    if kind < 0.45:
        from benchmarks.fuzz.graphs import case

        return case(draw.randrange(5000)).model
    found = onnx.ModelProto()
    found.CopyFrom(
        layers(draw.randrange(len(LAYERS))) if kind < 0.85 else _other(draw.randrange(len(OTHERS)))
    )
    return found


def _read(text: str, seed: int) -> onnx.ModelProto:
    """The model, random numbers in the weights that the text only declares."""
    proto = onnx.parser.parse_model(HEAD + text)
    numbers = np.random.default_rng(seed)
    made = {name for node in proto.graph.node for name in node.output}
    for value in [value for value in proto.graph.value_info if value.name not in made]:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        array = numbers.normal(size=dims).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
        proto.graph.value_info.remove(value)
    return proto
