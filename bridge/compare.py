"""The proof: torch, onnxruntime and Keras on the same inputs, at several sizes of every free axis.

    torch ↔ onnxruntime    the export leg, and the noise floor
    onnxruntime ↔ Keras    the conversion leg
    torch ↔ Keras          the whole; also in float64, where a wrong formula cannot hide behind rounding

The relative error of two arrays is the largest difference over the largest magnitude of the reference.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from bridge.build import Built
from bridge.errors import BridgeError, MissingPackage, SourceError, said
from bridge.plan import Perm, Plan
from bridge.report import LIMIT, ORT_KERAS, TORCH_KERAS, TORCH_ORT, Check

LIMIT_DOUBLE = 1e-10
FLOOR = 10  # how many times torch's own rounding float32 may be off where a network amplifies it
RANDOM = 1e-3  # by which two runs on the same inputs differ only where chance has a part
AT_ONCE = 1 << 29  # bytes of the values between nodes that are compared in one run
INSIDE = 1 << 10  # bytes of an initializer that onnxruntime gets within the model

Arrays = list[np.ndarray]


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference over the largest magnitude; infinite where shapes differ or one is not finite alone."""
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return float("inf")
    if not want.size:
        return 0.0
    if want.dtype.kind in "bui":
        return 0.0 if np.array_equal(got, want) else float("inf")
    finite = np.isfinite(want)
    if not np.array_equal(np.isfinite(got), finite) or not np.array_equal(
        got[~finite], want[~finite], equal_nan=True
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    got, want = got[finite].astype(np.float64), want[finite].astype(np.float64)
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30))


def worst_error(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> float:
    if len(got) != len(want):
        return float("inf")
    return max((relative_error(a, b) for a, b in zip(got, want, strict=True)), default=0.0)


# --- the three witnesses -----------------------------------------------------------------------------------------


class OnnxRuntime:
    """onnxruntime on an IR model, one thread; the weights are shared with the model."""

    def __init__(self, model: ir.Model):
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPackage("the proof needs onnxruntime: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.disable_prepacking", "1")  # which copies every weight
        # what is written is what runs
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = False  # memory goes back at once
        light, self._weights = _without_weights(model)
        values = map(onnxruntime.OrtValue.ortvalue_from_numpy, self._weights.values())
        options.add_external_initializers(list(self._weights), list(values))
        try:
            self._session = onnxruntime.InferenceSession(ir.to_proto(light).SerializeToString(), options)
        except Exception as error:
            raise SourceError(f"onnxruntime refuses the model: {said(error)}") from error
        self._inputs = [value.name for value in self._session.get_inputs()]

    def __call__(self, inputs: Arrays) -> Arrays:
        feeds = dict(zip(self._inputs, inputs, strict=True))
        return [np.asarray(output) for output in self._session.run(None, feeds)]


def _without_weights(model: ir.Model) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """The model with its larger initializers beside it, which onnxruntime then reads where they lie."""
    light, arrays = model.clone(), {}
    for name, value in light.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > INSIDE:
            arrays[name] = np.ascontiguousarray(tensor.numpy())
            value.const_value = ir.ExternalTensor(
                "beside", 0, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=name, base_dir=""
            )
    return light, arrays


def apart(module: Any) -> Any:
    """A copy of a torch module that shares its parameters and buffers. What forward keeps from one call for the next,
    such as a table made of parameters, is then neither traced as a constant nor left behind."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    try:
        return copy.deepcopy(module, shared)
    except Exception:  # it holds what cannot be copied, such as the results of a hook
        return module


class Torch:
    """A module called as it was exported, on numpy arrays; `double()` gives it in float64."""

    def __init__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None):
        import torch

        self._torch = torch
        self.module = module
        self._leaves, self._spec = torch.utils._pytree.tree_flatten((args, kwargs or {}))
        self.examples = [x.detach().cpu().numpy() for x in self._leaves if isinstance(x, torch.Tensor)]

    @property
    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The example inputs, as the module takes them."""
        return self._torch.utils._pytree.tree_unflatten(self._leaves, self._spec)

    def copy(self) -> Torch:
        """The same, with a module of its own."""
        return Torch(copy.deepcopy(self.module), *self.arguments)

    def double(self) -> Torch:
        """The same module and examples in float64."""
        torch = self._torch
        leaves = [
            x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in self._leaves
        ]
        args, kwargs = torch.utils._pytree.tree_unflatten(leaves, self._spec)
        return Torch(copy.deepcopy(self.module).double(), args, kwargs)

    @cached_property
    def _settled(self) -> Any:
        """What calls in evaluation mode run, so that the module is as if it had not been called."""
        return apart(self.module)

    def outputs(self, inputs: Arrays, module: Any = None) -> list[Any]:
        """The output tensors of the module (or of `module`), flat, in whatever mode it is in."""
        torch, given = self._torch, iter(inputs)
        module = self.module if module is None else module
        leaves = [torch.from_numpy(next(given)) if isinstance(x, torch.Tensor) else x for x in self._leaves]
        args, kwargs = torch.utils._pytree.tree_unflatten(leaves, self._spec)
        return [
            x for x in torch.utils._pytree.tree_leaves(module(*args, **kwargs)) if isinstance(x, torch.Tensor)
        ]

    def __call__(self, inputs: Arrays) -> Arrays:
        module = self._settled
        training = getattr(module, "training", False)
        if training:
            module.eval()
        try:
            with self._torch.no_grad():
                return [x.detach().cpu().numpy() for x in self.outputs(inputs, module)]
        finally:
            if training:
                module.train()


def keras_call(
    model: keras.Model, given: Sequence[Perm] = (), made: Sequence[Perm] = ()
) -> Callable[[Arrays], Arrays]:
    """A Keras model as a function of numpy arrays whose axes are in the source's order, whatever the order of the
    model's own inputs (`given`) and outputs (`made`), which is the source's where left out."""

    def call(inputs: Arrays) -> Arrays:
        ordered = [x if p is None else x.transpose(p) for x, p in zip_longest(inputs, given)]
        tensors = [keras.ops.convert_to_tensor(array) for array in ordered]
        outputs = model(tensors if len(tensors) != 1 else tensors[0], training=False)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        arrays = [keras.ops.convert_to_numpy(output) for output in outputs]
        return [y if p is None else y.transpose(np.argsort(p)) for y, p in zip_longest(arrays, made)]

    return call


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


# --- inputs ------------------------------------------------------------------------------------------------------

Sizes = dict[str, int]


def sizes_text(sizes: Sizes) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "as exported"


@dataclass(frozen=True)
class Sampler:
    """Draws inputs of any size that fit the model: values like the example's, indices within their tables, lengths
    within their sequences (the longest as long as the sequence)."""

    inputs: Sequence[ir.Value]
    examples: Arrays
    lengths: dict[str, Any]  # input name -> the dim that bounds it
    tables: dict[str, int]  # input name -> how many rows its values choose from

    @classmethod
    def of(cls, model: ir.Model, examples: Arrays | None = None) -> Sampler:
        """For `model` as `passes.simplify` left it; without examples every free axis starts at a small size."""
        lengths, tables = _lengths(model.graph), _tables(model.graph)
        inputs = list(model.graph.inputs)
        sampler = cls(inputs, [], lengths, tables)
        if examples is None:
            sizes = {name: 3 + 2 * i for i, name in enumerate(sampler.symbols())}
            rng = np.random.default_rng(0)
            examples = [sampler._draw(value, None, sizes, rng) for value in inputs]
        return cls(inputs, examples, lengths, tables)

    def symbols(self) -> list[str]:
        return list(
            dict.fromkeys(
                s for v in self.inputs for d in v.shape if not isinstance(d, int) for s in d.free_symbols()
            )
        )

    def exported(self) -> Sizes:
        """The sizes of the examples."""
        sizes: Sizes = {}
        for value, example in zip(self.inputs, self.examples, strict=True):
            for dim, size in zip(value.shape, example.shape, strict=True):
                if not isinstance(dim, int) and dim.value in self.symbols():
                    sizes.setdefault(dim.value, size)
        return sizes

    def others(self) -> Iterator[Sizes]:
        """Other sizes to try, the likeliest to be legal and the most telling first."""
        base = self.exported()
        first = next(iter(base), None)
        rules: list[Callable[[str, int], int]] = [
            lambda name, n: n + 1,
            lambda name, n: 1 if name == first else 3 * n,
            lambda name, n: 2 * n,
            lambda name, n: 3 * n,
            lambda name, n: n + 3 if name == first else 4 * n,
            lambda name, n: n + 2,
        ]
        if base:
            yield from ({name: rule(name, n) for name, n in base.items()} for rule in rules)

    def draws(self) -> Iterator[tuple[Sizes, Arrays]]:
        """The examples, then inputs of other sizes."""
        yield self.exported(), self.examples
        for seed, sizes in enumerate(self.others(), 1):
            yield sizes, self.draw(sizes, seed)

    def draw(self, sizes: Sizes, seed: int = 0) -> Arrays:
        rng = np.random.default_rng(seed)
        return [self._draw(v, e, sizes, rng) for v, e in zip(self.inputs, self.examples, strict=True)]

    def _draw(
        self, value: ir.Value, example: np.ndarray | None, sizes: Sizes, rng: np.random.Generator
    ) -> np.ndarray:
        shape = tuple(_evaluate(dim, sizes) for dim in value.shape)
        dtype = value.dtype.numpy() if example is None else example.dtype
        if value.name in self.lengths:
            longest = _evaluate(self.lengths[value.name], sizes)
            drawn = rng.integers(1, longest + 1, shape)
            drawn.reshape(-1)[:1] = longest
            if example is not None and example.ndim == 1 and np.all(np.diff(example) <= 0):
                drawn = np.sort(drawn)[::-1]  # packing may insist on sorted lengths
            return drawn.astype(dtype, order="C")
        if dtype.kind == "b":
            return rng.integers(0, 2, shape).astype(bool)
        if dtype.kind in "ui":
            low, high = 0, self.tables.get(value.name, 10)
            if example is not None and example.size:
                low, high = int(example.min()), int(example.max()) + 1
            return rng.integers(low, max(high, low + 1), shape).astype(dtype)
        if example is not None and example.size > 1 and example.std() > 0:
            return rng.permutation(np.resize(example, max(int(np.prod(shape)), 1)))[
                : int(np.prod(shape))
            ].reshape(shape)
        return rng.standard_normal(shape).astype(dtype)


def _evaluate(dim: Any, sizes: Sizes) -> int:
    return dim if isinstance(dim, int) else int(dim.evaluate(sizes))


def _root(value: ir.Value | None) -> ir.Value | None:
    """The value that `value` is a cast or a copy of."""
    while (
        value is not None
        and value.producer() is not None
        and value.producer().op_type in ("Cast", "Identity")
    ):
        value = value.producer().inputs[0]
    return value


def _lengths(graph: ir.Graph) -> dict[str, Any]:
    found = {}
    for node in graph:
        if (
            node.domain == "bridge"
            and len(node.inputs) > 4
            and node.op_type not in ("LSTMCell", "GRUCell", "RNNCell")
        ):
            root, time = _root(node.inputs[4]), 0 if node.op_type.startswith("LSTMP") else 1
            if root is not None and root.is_graph_input():
                found[root.name] = node.inputs[0].shape[time]
    return found


def _tables(graph: ir.Graph) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in graph:
        if (
            node.op_type == "Gather"
            and node.inputs[0].shape is not None
            and isinstance(node.inputs[0].shape[0], int)
        ):
            root = _root(node.inputs[1])
            if root is not None and root.is_graph_input():
                found[root.name] = min(found.get(root.name, 1 << 62), node.inputs[0].shape[0])
    return found


# --- comparing ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """Inputs at one choice of sizes, with what the reference witnesses say."""

    sizes: Sizes
    inputs: Arrays
    torch: Arrays | None
    onnx: Arrays


def trials(
    sampler: Sampler, onnx: OnnxRuntime, torch: Torch | None, count: int = 3
) -> tuple[list[Trial], list[str]]:
    """The examples themselves and `count - 1` other sizes that the source runs at; and the sizes it refused."""
    source = onnx if torch is None else torch
    done: list[Trial] = []
    refused: list[str] = []
    for sizes, inputs in sampler.draws():
        if len(done) == count:
            break
        try:
            first = source(inputs)
        except Exception as error:
            refused.append(f"the source itself does not run at {sizes_text(sizes)}: {said(error)}")
            continue
        if not done and worst_error(source(inputs), first) > RANDOM:
            raise SourceError(
                "the source gives other outputs each time it runs, in evaluation mode too: something in it is random "
                "or remembers, such as a dropout that is not told training=self.training"
            )
        legs = (None, first) if torch is None else (first, _exported(onnx, sizes, inputs))
        done.append(Trial(sizes, inputs, *legs))
    if not done:
        raise SourceError(f"no inputs found at which the source runs: {refused[0]}")
    return done, refused


def _exported(onnx: OnnxRuntime, sizes: Sizes, inputs: Arrays) -> Arrays:
    """What the exported graph gives where the source itself runs."""
    try:
        return onnx(inputs)
    except Exception as error:
        raise SourceError(
            f"the exported graph does not run at {sizes_text(sizes)} although torch does: {said(error)}"
        ) from error


def checks(call: Callable[[Arrays], Arrays], tried: Sequence[Trial]) -> Iterator[Check]:
    """All legs at all sizes; `call` is a `keras_call`."""
    for trial in tried:
        text = sizes_text(trial.sizes)
        try:
            got = call(trial.inputs)
        except Exception as error:
            yield Check(ORT_KERAS, f"{text}, where Keras does not run: {said(error)}", float("inf"), LIMIT)
            continue
        if trial.torch is not None:
            yield Check(TORCH_ORT, text, worst_error(trial.onnx, trial.torch), LIMIT)
        yield Check(ORT_KERAS, text, worst_error(got, trial.onnx), LIMIT)
        if trial.torch is not None:
            yield Check(TORCH_KERAS, text, worst_error(got, trial.torch), LIMIT)


def allowing_rounding(found: Sequence[Check], tried: Sequence[Trial], double: Torch) -> list[Check]:
    """`found` with limits of at least `FLOOR` times what torch's own float32 is off at the same inputs; `double` is
    torch in float64."""
    limits: dict[str, float] = {}
    for trial in tried:
        rounding = worst_error(trial.torch or [], double(cast(trial.inputs, "float64")))
        limits[sizes_text(trial.sizes)] = FLOOR * rounding if math.isfinite(rounding) else 0.0
    return [replace(check, limit=max(check.limit, limits.get(check.sizes, 0.0))) for check in found]


def cast(inputs: Arrays, dtype: str) -> Arrays:
    """The inputs of floating point in `dtype`."""
    return [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]


def compare_double(model: keras.Model, double: Torch, sampler: Sampler, count: int = 3) -> Iterator[Check]:
    """A torch module in float64 against the Keras model made from it, at the sizes that `trials` would take."""
    call, done = keras_call(model), 0
    for sizes, inputs in sampler.draws():
        if done == count:
            return
        try:
            want = double(inputs)
        except Exception:  # sizes the source itself does not run at; `trials` has said so
            continue
        done += 1
        yield Check(TORCH_KERAS, sizes_text(sizes), worst_error(call(inputs), want), LIMIT_DOUBLE, "float64")


def node_errors(plan: Plan, built: Built, trial: Trial) -> dict[ir.Node, float]:
    """The largest relative error of every step's used outputs against onnxruntime on the same (simplified) graph."""
    shown = [
        (step.node, value)
        for step in plan.steps
        for index, value in enumerate(step.node.outputs)
        if step.used(index) and isinstance(built.tensors.get(value), keras.KerasTensor)
    ]
    if not shown:
        return {}
    errors: dict[ir.Node, float] = {}
    for portion in _portions(shown, trial.sizes):
        values = [value for _, value in portion]
        pairs = zip(_keras_values(plan, built, values, trial), _onnx_values(plan, values, trial), strict=True)
        for (node, value), (ours, theirs) in zip(portion, pairs, strict=True):
            errors[node] = max(errors.get(node, 0.0), relative_error(ours, plan.stored(value, theirs)))
    return errors


def _keras_values(plan: Plan, built: Built, values: list[ir.Value], trial: Trial) -> Arrays:
    model = keras.Model(built.model.inputs, [built.tensors[value] for value in values])
    return keras_call(model, [plan.doors.get(value) for value in plan.model.graph.inputs])(trial.inputs)


def _onnx_values(plan: Plan, values: list[ir.Value], trial: Trial) -> Arrays:
    model = plan.model.clone()
    named = {value.name: value for node in model.graph for value in node.outputs}
    model.graph.outputs[:] = [named[value.name] for value in values]
    return OnnxRuntime(model)(trial.inputs)


def _portions(
    shown: Sequence[tuple[ir.Node, ir.Value]], sizes: Sizes
) -> Iterator[list[tuple[ir.Node, ir.Value]]]:
    """The values in runs that fit into memory together."""
    portion: list[tuple[ir.Node, ir.Value]] = []
    room = AT_ONCE
    for node, value in shown:
        size = _bytes(value, sizes)
        if portion and size > room:
            yield portion
            portion, room = [], AT_ONCE
        portion.append((node, value))
        room -= size
    yield portion


def _bytes(value: ir.Value, sizes: Sizes) -> int:
    """How large `value` is; 0 where data decide."""
    shape = value.shape.evaluate(sizes)
    return 8 * math.prod(shape) if shape.is_static() else 0
