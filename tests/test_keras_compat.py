"""Every quirk of Keras that `keras_compat.py` knows is there: a test that fails says that the code for it may go."""

import ast
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.src.backend.common import dtypes, global_state

import bridge
from bridge import keras_compat, keras_memory
from bridge.keras_compat import TWINS, double_precision
from bridge.verification.checks import LIMIT_FLOAT64

X = np.linspace(-2, 2, 101).reshape(1, 101)
Q = np.random.default_rng(0).standard_normal((1, 5, 2, 3))
CUBES = np.random.default_rng(0).standard_normal((1, 4, 4, 4, 2))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def attended(q, k, v):
    scores = np.einsum("btnh,bsnh->bnts", q * 3**-0.5, k)
    return np.einsum("bnts,bsnh->btnh", softmax(scores), v)


def attention():
    """Keras's layer, and what its own projections give with an exact scale."""
    layer = layers.MultiHeadAttention(2, 3)
    got = layer(Q[..., 0], Q[..., 0], return_attention_scores=True)[0]
    projected = (
        np.array(dense(Q[..., 0])) for dense in (layer.query_dense, layer.key_dense, layer.value_dense)
    )
    return got, layer.output_dense(attended(*projected))


def gelu():
    return ops.gelu(X, approximate=True), 0.5 * X * (1 + np.tanh((2 / np.pi) ** 0.5 * (X + 0.044715 * X**3)))


ROUNDED = {  # what Keras gives, and what it should
    "ReLU": lambda: (layers.ReLU(max_value=0.1)(X), np.clip(X, 0, 0.1)),
    "LeakyReLU": lambda: (layers.LeakyReLU(negative_slope=0.1)(X), np.where(X < 0, 0.1 * X, X)),
    "gelu": gelu,
    "dot_product_attention": lambda: (ops.dot_product_attention(Q, Q, Q, scale=3**-0.5), attended(Q, Q, Q)),
    "MultiHeadAttention": attention,
    "pooling of three axes": lambda: (
        layers.AveragePooling3D(2)(CUBES),
        CUBES.reshape(1, 2, 2, 2, 2, 2, 2, 2).mean((2, 4, 6)),
    ),
}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow rounds")
@pytest.mark.parametrize("name", TWINS)
def test_what_has_a_twin_rounds_in_float64_or_is_not_there(name):
    import tensorflow

    with double_precision():
        try:
            got, want = map(np.array, ROUNDED[name]())
        except tensorflow.errors.OpError:  # there is no kernel
            return
        assert np.abs(got - want).max() / np.abs(want).max() > LIMIT_FLOAT64


def test_a_table_of_keras_makes_float32_of_float64_unless_it_is_told(monkeypatch):
    """As it has it for all backends but TensorFlow. It is where we look for it, Keras reads it, and it is left as it
    was found."""
    double = "float64"
    if keras.backend.backend() != "tensorflow":
        assert dtypes.BIT64_TO_BIT32_DTYPE[double] == "float32"
    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, double, "float32")
    assert keras.backend.result_type(double, double) == "float32"
    with double_precision():
        assert keras.backend.result_type(double, double) == double
    assert keras.backend.result_type(double, double) == "float32"


def nested():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="inside")], name="inner")
    return keras.Sequential([keras.Input((3,)), inner, layers.ReLU()])


def test_a_model_has_only_its_own_layers():
    model = nested()
    assert "inside" not in {layer.name for layer in model.layers}
    assert {"inner", "inside"} <= {layer.name for layer in keras_compat.all_layers(model)}


def test_one_number_of_any_type_is_an_array():
    for dtype in ("float32", "bfloat16", "int64", "bool"):
        got = keras_compat.to_numpy(ops.cast(1.0, dtype))
        assert got.shape == ()
        assert got == 1
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match="__array__"):
            ops.convert_to_numpy(ops.cast(1.0, "bfloat16"))


def leaves_out_digits():
    """What the backend says of products of float32 on an accelerator."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.config.jax_default_matmul_precision != "highest"
    if keras.backend.backend() == "torch":
        import torch

        return torch.backends.cudnn.allow_tf32
    import tensorflow

    return tensorflow.config.experimental.tensor_float_32_execution_enabled()


def test_products_have_all_digits_where_told():
    assert leaves_out_digits()
    with keras_compat.full_precision():
        assert not leaves_out_digits()
    assert leaves_out_digits()


def test_a_model_keeps_its_values_until_the_last_is_there_unless_told():
    """One inside of another too, where a value is read twice, where one is given as it is, and where nobody reads it."""
    values, most = [], []

    class Watching(layers.Layer):
        def call(self, x):
            values.append(weakref.ref(x))
            most.append(sum(value() is not None for value in values))
            return x + 1

    def chain(count):
        first = keras.Input((3,))
        x = again = layers.Dense(3)(first)
        for _ in range(count):
            x = Watching()(x)
        return keras.Model(first, [x, ops.split(again, 3, axis=1)[1], x, again])

    outer = keras.Input((3,))
    inner = chain(20)(outer)
    model = keras.Model(outer, [*inner, chain(20)(inner[0])[0]])
    want = [ops.convert_to_numpy(y) for y in model(X[:, :3])]
    assert max(most) >= 20
    values.clear()
    most.clear()
    with keras_compat.letting_go():
        got = model(X[:, :3])
    assert max(most) <= 6
    made = {place: value + 0 for place, value in keras_compat.outputs_as_made(model, [X[:, :3]])}
    assert max(most) <= 6
    got = [*got, *(made[place] for place in sorted(made))]
    for one, another in zip(got, want + want, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), another)


def test_operations_are_found_from_tensors():
    x = keras.Input((3,))
    y = ops.exp(ops.abs(x))
    operation, call = keras_compat.made_by(y)
    (between,) = keras_compat.call_of(operation, call).reads
    assert keras_compat.call_of(*keras_compat.made_by(between)).reads == [x]
    assert keras_compat.depth(keras.Model(x, y)) == 3
    assert keras_compat.made_by(np.zeros(3)) is None


def test_an_optimizer_steps_its_variables_under_another_identity():
    """In a step of TensorFlow a variable is not the Keras variable that the optimizer was built with."""
    seen = []

    class Watching(keras.optimizers.SGD):
        def update_step(self, gradient, variable, rate):
            seen.append((variable, keras_compat.place_of(variable, self)))

    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile(Watching(), "mse", run_eagerly=True)
    model.train_on_batch(np.ones((1, 3)), np.ones((1, 2)))
    assert [place for _, place in seen] == [0, 1]
    if keras.backend.backend() == "tensorflow":
        assert not any(one is another for one, _ in seen for another in model.trainable_variables)


def test_counting_elements_leaves_nothing_behind():
    """A scope without values leaves its variables for the next one to initialise."""
    config = keras.saving.serialize_keras_object(nested())
    assert keras_memory.count_elements(config) == 12
    kept = keras.Sequential([keras.Input(batch_shape=(2, None, 3)), layers.SimpleRNN(4, stateful=True)])
    without = keras.Sequential([keras.Input(batch_shape=(2, None, 3)), layers.SimpleRNN(4)])
    sizes = [keras_memory.count_elements(keras.saving.serialize_keras_object(m)) for m in (kept, without)]
    assert sizes[0] - sizes[1] == 2 * 4  # the states
    assert not global_state.get_global_attribute("uninitialized_variables", [])
    with keras.StatelessScope(initialize_variables=False):
        keras.saving.deserialize_keras_object(config, safe_mode=True)
        left = global_state.get_global_attribute("uninitialized_variables", [])
        assert left
        left.clear()


OTHERS = ("self", "cls", "torch", "dim")  # whose private attributes are none of Keras's


ELSEWHERE = {  # backend -> what of `keras_compat` says it, and an expression that is true while it is so
    "jax": {
        "kept_type": "ops.convert_to_tensor(np.zeros(3)).dtype == 'float32'",
        "has_long_integers": "ops.convert_to_tensor(np.arange(3)).dtype == 'int32'",
        "rounds_double": "keras.backend.result_type('float64', 'float64') == 'float32'",
        "joins_shapes": "fails(lambda: ops.cond(ops.convert_to_tensor(True), lambda: ops.ones(2), lambda: ops.ones(3)))",
        "counts_while_running": "fails(lambda: __import__('jax').jit(ops.nonzero)(ops.ones(3)))",
        "forgets_states": "(lambda m, x: np.allclose(m.predict(x, verbose=0), m.predict(x, verbose=0)))(keras.Sequential(["
        "keras.Input(batch_shape=(1, None, 1)), keras.layers.SimpleRNN(2, stateful=True)]), np.ones((1, 2, 1)))",
    },
    "torch": {
        "kept_type": "(keras.KerasTensor((4,), 'int64') + 1).dtype == 'int32'",
        "rounds_double": "keras.backend.result_type('float64', 'float64') == 'float32'",
        "ranks_by_place": "np.array(ops.top_k(np.zeros(300, 'float32'), 5)[1]).tolist() != [0, 1, 2, 3, 4]",
    },
}
PROGRAM = """
import json
import keras
import numpy as np
from keras import ops

def fails(run):
    try:
        run()
    except Exception:
        return True
    return False

print(json.dumps({name: bool(eval(expression)) for name, expression in %r.items()}))
"""


@pytest.mark.parametrize("backend", ELSEWHERE)
def test_other_backends_are_as_they_are_said_to_be(backend):
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM % ELSEWHERE[backend]],
        capture_output=True, text=True, check=True, env=os.environ | {"KERAS_BACKEND": backend},
    )  # fmt: skip
    assert json.loads(found.stdout) == dict.fromkeys(ELSEWHERE[backend], True)
    assert all(hasattr(keras_compat, name) for name in ELSEWHERE[backend])


def test_nobody_else_uses_what_keras_keeps_to_itself():
    root = Path(bridge.__file__).parent
    for path in sorted(set(root.rglob("*.py")) - {root / "keras_compat.py", root / "keras_memory.py"}):
        tree = list(ast.walk(ast.parse(path.read_text())))
        modules = {node.module or "" for node in tree if isinstance(node, ast.ImportFrom)}
        modules |= {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
        assert not any(module.startswith("keras.src") for module in modules), path
        if any(module.partition(".")[0] == "keras" for module in modules):
            found = [ast.unparse(node) for node in tree if isinstance(node, ast.Attribute) and _private(node)]
            assert [text for text in found if text.partition(".")[0] not in OTHERS] == [], path


def _private(node):
    return node.attr.startswith("_") and not node.attr.startswith("__")
