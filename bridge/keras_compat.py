"""What each Keras backend needs to be told, and every attribute of Keras that is not public.

`tests/test_keras_compat.py` fails where Keras no longer needs it.
"""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np

from bridge.errors import BridgeError

Config: TypeAlias = dict[str, Any]  # what Keras makes an object of a class with, by name

# What Keras has not in float64, or rounds to float32 there: builders take another way in its place (`Site.twin`)
TWINS = {
    "ReLU": "TensorFlow rounds max_value",
    "LeakyReLU": "TensorFlow rounds negative_slope",
    "gelu": "TensorFlow rounds its constants",
    "dot_product_attention": "TensorFlow rounds the scale",
    "MultiHeadAttention": "TensorFlow rounds the scale of its scores",
    "pooling of three axes": "TensorFlow has none",
}
ITEMSIZE = 4  # bytes of a number, as good as any
NO_KERNEL = re.compile(  # as TensorFlow says of arrays that have more axes than its kernels take
    r"is not supported yet|Unhandled input dimensions|rank not in|Input dims must be|only support up to|"
    r"not implemented for tensors of rank|Rank of output tensor must be"
)


@contextlib.contextmanager
def channels_last() -> Iterator[None]:
    """Keras making layers that have their channels last; it is left as it was found."""
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_image_data_format(before)


def functions_of_backend() -> ModuleType:
    """Where the functions lie that layers and `keras.ops` call on the backend."""
    from keras.src import backend

    return backend


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Keras computing in float64 on every backend, left afterwards as it was found.

    Only with TensorFlow does it by itself: elsewhere a private table of Keras makes float32 of float64, and jax has
    no 64 bits unless told. Raises `BridgeError` where a Keras cannot be told.
    """
    from keras.src.backend.common import dtypes

    backend, double, table = keras.backend.backend(), "float64", getattr(dtypes, "BIT64_TO_BIT32_DTYPE", {})
    kept = dict(table)
    with contextlib.ExitStack() as stack:
        stack.callback(table.update, kept)
        table[double] = double
        stack.callback(keras.config.set_floatx, keras.config.floatx())
        keras.config.set_floatx(double)  # of numbers, which torch's side of Keras would round to it
        if keras.backend.result_type(double, double) != double:
            raise BridgeError(
                f"Keras does not compute in float64 on {backend}; compare with KERAS_BACKEND=tensorflow"
            )
        if backend == "jax":
            import jax

            stack.enter_context(jax.enable_x64(True))
        yield


def rounds_double() -> str:
    """The backend with which Keras rounds what is said to be in float64, or the numbers it is made of, if it does."""
    backend = keras.backend.backend()
    return "" if backend == "tensorflow" else backend


def kept_type(dtype: str) -> str:
    """What stays of `dtype` on the way through Keras: outside TensorFlow its integers have 32 bits in places, on jax
    all numbers have unless told otherwise."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return dtype
    return dtype.replace("64", "32") if backend == "jax" else dtype.replace("int64", "int32")


def has_long_integers() -> bool:
    """Whether integers may have 64 bits."""
    return keras.backend.backend() != "jax"


def compiles_soon() -> bool:
    """Whether compiling a training step takes less time than running a few without."""
    return keras.backend.backend() == "jax"


def may_use_cudnn(dtype: str) -> bool:
    """Whether Keras's recurrent layers may leave numbers of `dtype` to cuDNN, which jax hands them as float32."""
    return dtype == "float32" or keras.backend.backend() != "jax"


def joins_shapes() -> bool:
    """Whether the two branches of `keras.ops.cond` may give tensors of different sizes."""
    return keras.backend.backend() != "jax"


def ranks_by_place() -> bool:
    """Whether `keras.ops.top_k` gives the first of equal numbers first."""
    return keras.backend.backend() != "torch"


def counts_while_running() -> bool:
    """Whether `keras.ops.nonzero` may give as many indices as its numbers say."""
    return keras.backend.backend() != "jax"


def forgets_states() -> bool:
    """Whether what Keras compiles, such as `predict`, forgets the state of its recurrent layers."""
    return keras.backend.backend() == "jax"


def copies_arrays() -> bool:
    """Whether a tensor of an array is a copy, in memory that the backend never gives back."""
    return keras.backend.backend() == "tensorflow"


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Keras multiplying in the precision that numbers have. On an accelerator each backend takes TF32 for float32 in
    some products unless told, which keeps 10 of its 23 bits."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif backend == "torch":
        with torch_in_full_precision():
            yield
    else:
        import tensorflow

        config = tensorflow.config.experimental
        was = config.tensor_float_32_execution_enabled()
        config.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            config.enable_tensor_float_32_execution(was)


@contextlib.contextmanager
def being_compared() -> Iterator[None]:
    """Keras in `full_precision` and `letting_go`, silent where a softmax is over an axis of 1: such sizes are tried."""
    with full_precision(), letting_go(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using a softmax over axis")
        yield


@contextlib.contextmanager
def letting_go() -> Iterator[None]:
    """Keras's models, those inside of others too, letting go of each value when nobody is left to read it. By
    themselves they keep all of them until the last is there."""
    from keras.src.ops.function import Function

    keeping = Function._run_through_graph
    Function._run_through_graph = _run_letting_go  # type: ignore[method-assign]
    try:
        yield
    finally:
        Function._run_through_graph = keeping  # type: ignore[method-assign]


def outputs_as_made(model: keras.Model, inputs: Sequence[np.ndarray]) -> Iterator[tuple[int, Any]]:
    """The outputs of `model`, each with its place among them, as soon as it is made: only the caller keeps them."""
    pairs = zip(model.inputs, inputs, strict=True)
    given = [keras.ops.convert_to_tensor(array, dtype=x.dtype) for x, array in pairs]
    places: dict[int, list[int]] = {}
    for place, x in enumerate(model.outputs):
        places.setdefault(id(x), []).append(place)
    with letting_go():
        for x, value in _values(model, given):
            for place in places.get(id(x), ()):
                yield place, value


def _run_letting_go(
    model: Any, inputs: Any, operation_fn: Callable[[Any], Any] = lambda step: step, call_fn: Any = None
) -> Any:
    """`Function._run_through_graph` of Keras: what the model's operations give, in the order of their depth."""
    wanted = {id(x) for x in model.outputs}
    values = {id(x): value for x, value in _values(model, inputs, operation_fn, call_fn) if id(x) in wanted}
    return keras.tree.pack_sequence_as(model._outputs_struct, [values[id(x)] for x in model.outputs])


def _values(
    model: Any, inputs: Any, operation_fn: Callable[[Any], Any] = lambda step: step, call_fn: Any = None
) -> Iterator[tuple[keras.KerasTensor, Any]]:
    """The value of every tensor of the model, in the order of their depth, kept as long as somebody will read it."""
    steps, values = _nodes(model), dict[int, Any]()
    readers = Counter(id(x) for node in steps for x in node.input_tensors)

    def made(tensors: Any, found: Any) -> Iterator[tuple[keras.KerasTensor, Any]]:
        for x, value in zip(tensors, keras.tree.flatten(found), strict=True):
            if readers[id(x)]:
                values[id(x)] = value
            yield x, value

    def run(node: Any) -> Any:
        args, kwargs = node.arguments.fill_in(values)
        for x in node.input_tensors:
            readers[id(x)] -= 1
            if not readers[id(x)]:
                del values[id(x)]
        step = operation_fn(node.operation)
        return step(*args, **kwargs) if call_fn is None else call_fn(step, *args, **kwargs)

    yield from made(model.inputs, inputs)
    for node in steps:
        yield from made(node.outputs, run(node))


@contextlib.contextmanager
def torch_in_full_precision() -> Iterator[None]:
    """The same of torch."""
    import torch

    products: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [product.allow_tf32 for product in products]
    for product in products:
        product.allow_tf32 = False
    try:
        yield
    finally:
        for product, was in zip(products, before, strict=True):
            product.allow_tf32 = was


def lacks_kernel(failure: str) -> str:
    """Why a model did not run, if it is that the backend has no kernel for arrays of so many axes."""
    if not NO_KERNEL.search(failure):
        return ""
    said = re.sub(r"{{.*?}} ?| ?\[Op:.*", "", failure)
    return f"{keras.backend.backend()} has no kernel for it: {said}; other KERAS_BACKENDs have"


def to_numpy(tensor: keras.KerasTensor | keras.Variable | np.ndarray) -> np.ndarray:
    """The values of a tensor. Of one bfloat16 in a tensor without axes TensorFlow makes no array."""
    values = keras.ops.convert_to_numpy(keras.ops.reshape(tensor, (-1,)) if tensor.shape == () else tensor)
    return values.reshape(tensor.shape)


def all_layers(whole: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers of a model or layer, and those inside of them: `model.layers` has only its own."""
    return list(whole._flatten_layers(include_self=False))


def depth(model: keras.Model) -> int:
    """How many operations stand in a row in `model`, each of which reads what the one before it gives."""
    return len(model._nodes_by_depth)


def made_by(tensor: object) -> tuple[keras.Layer, int] | None:
    """The layer, or operation, that a symbolic tensor comes from, and which of its calls; None if it has none."""
    history = getattr(tensor, "_keras_history", None)
    operation = getattr(history, "operation", None)
    return None if history is None or operation is None else (operation, history.node_index)


def _nodes(model: Any) -> list[Any]:
    """The calls of a model as Keras has them, in the order of their depth, in which they run."""
    depths = sorted(model._nodes_by_depth.items(), reverse=True)
    return [node for _, nodes in depths for node in nodes if not node.is_input]


class Call(NamedTuple):
    """A call of a layer, or of an operation in the place of one."""

    operation: keras.Layer
    reads: list[keras.KerasTensor]
    gives: list[keras.KerasTensor]
    args: tuple[Any, ...]  # what stands in its brackets
    kwargs: dict[str, Any]

    @classmethod
    def at(cls, node: Any) -> Call:
        given = node.arguments
        return cls(
            node.operation, list(node.input_tensors), list(node.output_tensors), given.args, given.kwargs
        )


def calls(model: keras.Model) -> list[Call]:
    """Every call in `model`, in an order in which they run."""
    return [Call.at(node) for node in _nodes(model)]


def call_of(operation: keras.Operation, place: int) -> Call:
    """A call of `operation`, one of several."""
    return Call.at(operation._inbound_nodes[place])


def ends(model: Any) -> tuple[Any, Any]:
    """What a model takes and what it gives, in the lists and dicts in which it does."""
    return model._inputs_struct, model._outputs_struct


def with_exact_scale(attention: keras.layers.MultiHeadAttention) -> keras.layers.MultiHeadAttention:
    """The layer, which is in float64, with the scale of its scores in float64: TensorFlow rounds a Python number."""
    attention._inverse_sqrt_key_dim = np.float64(attention._inverse_sqrt_key_dim)
    return attention


def place_of(variable: object, optimizer: keras.optimizers.Optimizer) -> int:
    """Which of the variables that `optimizer` was built with `variable` is, be it TensorFlow's own in a step."""
    return int(optimizer._get_variable_index(variable))


def stepped(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The variables that `optimizer` was built with, in their order."""
    return list(optimizer._trainable_variables)


def largest_bytes(model: keras.Model) -> int:
    """What the largest value between the layers of `model` takes, of the models inside it too, where every free axis
    is 1."""
    found: dict[int, keras.Operation] = {id(step): step for step in (model, *all_layers(model))}
    for layer in list(found.values()):
        found.update((id(step), step) for step in getattr(layer, "operations", ()))
    values = [
        value for step in found.values() for node in step._inbound_nodes for value in node.output_tensors
    ]
    return max(math.prod(size or 1 for size in value.shape) * ITEMSIZE for value in values)
