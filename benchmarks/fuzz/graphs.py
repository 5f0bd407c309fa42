"""Random valid graphs: converted, compared with onnxruntime on the graph as it is, saved, loaded with plain Keras."""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import onnx
import onnx.printer
from onnx import helper, numpy_helper

import benchmarks.fuzz.bodies
import benchmarks.fuzz.classical
import benchmarks.fuzz.fused
import benchmarks.fuzz.indexing
import benchmarks.fuzz.lists
import benchmarks.fuzz.networks
import benchmarks.fuzz.quantized
import benchmarks.fuzz.shapes  # noqa: F401 - draw their operators
import bridge
from benchmarks.fuzz.comparing import Feed, Ran, compared, known_of, reference, remembered, same, unsure
from benchmarks.fuzz.draft import Draft, Illegal, Input, model_of, numbers, tensor_type
from benchmarks.fuzz.operators import DRAWS
from benchmarks.fuzz.workers import ALARM, CRASHED, EQUAL, INVALID, LOST, REFUSED, WRONG, Outcome
from bridge.errors import BridgeError, InternalError, MismatchError
from bridge.graph.reduce import reduce
from bridge.graph.shapes import typed_by_onnx
from bridge.verification.checks import LIMIT
from bridge.verification.runners import keras_call
from bridge.verification.trials import Run

OPSETS = range(5, 29)  # those that onnxruntime runs nodes of
NAMES = "n t h w batch time width N".split() + [f"s{i}" for i in range(9)]
STRANGE = ["batch size", "seq/len", "?", "größe", "9**9**9", "-1", "n + 1", "lambda", "Max(2, n)", "None"]


@dataclass(frozen=True)
class Graph:
    """A valid model with what its inputs may hold."""

    proto: bytes
    inputs: dict[str, Input]
    seed: int

    @property
    def model(self) -> onnx.ModelProto:
        return onnx.load_from_string(self.proto)

    @property
    def groups(self) -> tuple[str, ...]:
        names = {node.op_type for node in self.model.graph.node} - {"Constant"}
        return tuple(sorted(names))

    def run(self) -> Outcome:
        wanted = self.wanted()
        if wanted is None:
            return Outcome(INVALID, "onnxruntime does not run it")
        try:
            converted = self.converted()
        except InternalError as error:
            return Outcome(CRASHED, str(error))
        except MismatchError as error:
            known = known_of(self.model, *wanted[0])
            void = known is not None and any(x.size and not x.any() for x in known.decided)
            return Outcome(INVALID if void else ALARM, str(error))
        except BridgeError as error:
            return Outcome(REFUSED, str(error))
        call = remembered(keras_call(converted.model))
        fault = self._fault(call, wanted)
        return Outcome(WRONG, fault) if fault else self._saved(converted, call, wanted)

    def wanted(self) -> list[Ran] | None:
        """Inputs with what onnxruntime gives for them; None where it does not run."""
        found = (reference(self.model, feed) for feed in self._feeds())
        return [run for run in found if run is not None] or None

    def converted(self, verify: bool = True) -> bridge.Conversion:
        keras.utils.clear_session(free_memory=False)
        return bridge.convert(self.model, verify=verify and bridge.Verify(inputs=next(self._feeds())))

    def fault(self, converted: bridge.Conversion, wanted: list[Ran]) -> str:
        """What differs in the Keras model, or nothing."""
        return self._fault(keras_call(converted.model), wanted)

    def _fault(self, call: Run, wanted: list[Ran]) -> str:
        for feed, want in wanted:
            fault = compared(call, feed, want)
            if fault and not unsure(self.model, call, feed, want):
                return fault
        return ""

    def _saved(self, converted: bridge.Conversion, call: Run, wanted: list[Ran]) -> Outcome:
        """The model again after it was saved and loaded: bit for bit the same."""
        with tempfile.TemporaryDirectory() as folder:
            path = converted.save(Path(folder) / "model.keras")
            try:
                loaded = keras.models.load_model(path, safe_mode=True)
                for feed, want in wanted[::2]:
                    if compared(call, feed, want):
                        continue  # there it need not run
                    got, again = (run(list(feed.values())) for run in (call, keras_call(loaded)))
                    if not all(map(same, got, again)):
                        return Outcome(LOST, "other numbers after loading")
            except Exception as error:
                text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                return Outcome(LOST, text)
        return Outcome(EQUAL)

    # --- what it is run on -----------------------------------------------------------------------------------

    def _feeds(self) -> Iterator[Feed]:
        """Inputs at the sizes of the draft and at others: random ones, ties and zeros, NaN and infinities."""
        for step, kind in ((0, "any"), (0, "exact"), (0, "special"), (1, "any"), (2, "exact"), (-1, "any")):
            yield {name: self._feed(name, given, step, kind) for name, given in self.inputs.items()}

    def _feed(self, name: str, given: Input, step: int, kind: str) -> np.ndarray:
        draw = np.random.default_rng([self.seed, *name.encode()])
        array = numbers(draw, given.dtype, _sizes(given.dims, step), given.within, kind == "exact")
        if kind == "special" and given.within is None and array.dtype.kind == "f":
            chosen = draw.choice([0, 0, 0, np.nan, np.inf, -np.inf], array.shape).astype(array.dtype)
            array = np.where(chosen == 0, array, chosen)
        return array.copy(order="F") if draw.random() < 0.3 else array  # both orders of memory

    # --- the smallest that fails alike ----------------------------------------------------------------------------

    def shrunk(self, fails: Callable[[Graph], bool]) -> Graph:
        return self._of(reduce(self.model, lambda model: fails(self._of(model))))

    def _of(self, model: onnx.ModelProto) -> Graph:
        """`model`, some of whose inputs are those of this one."""
        weights = {tensor.name for tensor in model.graph.initializer}
        found = {value.name: _input(value) for value in model.graph.input if value.name not in weights}
        known = {
            name: replace(given, within=self.inputs[name].within if name in self.inputs else None)
            for name, given in found.items()
        }
        return replace(self, proto=model.SerializeToString(), inputs=known)

    def shown(self) -> str:
        return onnx.printer.to_text(self.model)


def case(seed: int, opsets: Sequence[int] = OPSETS) -> Graph:
    """The graph of `seed`, of one of `opsets`."""
    chosen = random.Random(seed)
    while True:
        try:
            return _drawn(chosen, seed, opsets)
        except Illegal:
            continue


def amplifies(model: onnx.ModelProto) -> bool:
    """Whether `model` amplifies rounding beyond the limit of the proof, or jumps, at random inputs or ties."""
    fixed = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: _input(value) for value in model.graph.input if value.name not in fixed}
    for seed in range(4):
        feeds = itertools.islice(Graph(model.SerializeToString(), inputs, seed)._feeds(), 2)
        for run in (reference(model, feed) for feed in feeds):
            known = None if run is None else known_of(model, *run)
            if known is not None and (known.limit > LIMIT or not all(x.all() for x in known.decided)):
                return True
    return False


# --- drawing -----------------------------------------------------------------------------------------------------


def _drawn(chosen: random.Random, seed: int, opsets: Sequence[int]) -> Graph:
    draft = Draft(chosen, chosen.choice(opsets))
    names = sorted(name for name in DRAWS if _exists(name, draft.opset))  # whatever was imported first
    for _ in range(chosen.choices(range(1, 13), (33, 23, 13, 9, 7, 6, 2, 2, 2, 1, 1, 1))[0]):
        for _ in range(6):
            before = dict(vars(draft)) | {
                k: v.copy() for k, v in vars(draft).items() if isinstance(v, dict | list | set)
            }
            draft.op = chosen.choice(names)
            try:
                DRAWS[draft.op](draft)
                break
            except Illegal:
                vars(draft).update(before)
        else:
            raise Illegal("no operator fits")
    return _finished(draft, seed)


def _exists(name: str, opset: int) -> bool:
    if ":" in name:
        return opset >= 13
    try:
        return not onnx.defs.get_schema(name, opset).deprecated
    except onnx.defs.SchemaError:
        return False


def _finished(draft: Draft, seed: int) -> Graph:
    """The graph, some axes of its inputs free, checked and run."""
    nodes = draft.nodes
    read = draft.captured.union(*(node.input for node in nodes))
    made = [name for node in nodes if node.op_type != "Constant" for name in node.output if name]
    outputs = [name for name in made if name not in read or draft.chance(0.1)]
    if not outputs or not set(outputs) <= draft.computed:
        raise Illegal("an output that depends on no input")
    inputs = {name: given for name, given in draft.inputs.items() if name in read}
    before = {name: list(given.dims) for name, given in inputs.items()}
    if draft.chance(0.6):
        _free(draft, inputs)
    for attempt in range(2):
        graph = Graph(_model(draft, inputs, outputs).SerializeToString(), inputs, seed)
        try:
            onnx.checker.check_model(graph.model)
            typed_by_onnx(graph.model, check_type=True, strict_mode=True)
            ran = [reference(graph.model, f) is not None and _fits(graph.model, f) for f in graph._feeds()]
        except Exception as error:
            raise Illegal(str(error)) from error
        if all(ran[:-1]):
            return graph
        for name, dims in before.items():
            inputs[name].dims = dims
        if attempt:
            raise Illegal("onnxruntime does not run it")
    raise AssertionError


def _fits(model: onnx.ModelProto, feed: Feed) -> bool:
    """Whether shapes fit at these sizes as ONNX says it: onnxruntime passes over some of what is empty."""
    for value in model.graph.input:
        if value.name in feed:
            value.type.tensor_type.shape.CopyFrom(
                tensor_type("float32", feed[value.name].shape).tensor_type.shape
            )
    try:
        typed_by_onnx(model, strict_mode=True)
    except onnx.shape_inference.InferenceError:
        return False
    return True


def _free(draft: Draft, inputs: dict[str, Input]) -> None:
    """Axes of some sizes are free, those of one size alike for the most part."""
    sizes = sorted({n for given in inputs.values() for n in given.dims if n > 1 or draft.chance(0.05)})
    names = dict(
        zip(
            sizes,
            draft.random.sample(STRANGE + NAMES[:5] if draft.chance(0.1) else NAMES, len(sizes)),
            strict=True,
        )
    )
    chosen = {size for size in sizes if draft.chance(0.6)}
    for given in inputs.values():
        given.dims = [f"{names[n]}_{n}" if n in chosen and draft.chance(0.85) else n for n in given.dims]


def _model(draft: Draft, inputs: dict[str, Input], outputs: list[str]) -> onnx.ModelProto:
    read = draft.captured.union(*(node.input for node in draft.nodes))
    made = [
        onnx.ValueInfoProto(
            name=name,
            type=tensor_type(
                draft.values[name].dtype.name, [f"{name}_{k}" for k in range(draft.values[name].ndim)]
            ),
        )
        for name in outputs
    ]
    graph = helper.make_graph(
        [node for node in draft.nodes if node.op_type != "Constant" or node.output[0] in read],
        "g",
        [onnx.ValueInfoProto(name=n, type=tensor_type(i.dtype, i.dims)) for n, i in inputs.items()],
        made,
        [numpy_helper.from_array(a, name) for name, a in draft.initializers.items() if name in read],
    )
    if draft.chance(0.1):  # as files of old are written
        for tensor in graph.initializer:
            held = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            graph.input.append(onnx.ValueInfoProto(name=tensor.name, type=held))
    return model_of(graph, draft.opset)


def _sizes(dims: list[int | str], step: int) -> tuple[int, ...]:
    """The sizes of the draft, every free one larger by `step`; 1 where that is negative."""
    drawn = [(dim, int(dim.rpartition("_")[2])) if isinstance(dim, str) else (None, dim) for dim in dims]
    return tuple(n if name is None else 1 if step < 0 else n + step for name, n in drawn)


def _input(value: onnx.ValueInfoProto) -> Input:
    tensor = value.type.tensor_type
    dims = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    dims = [
        f"{dim}_3" if isinstance(dim, str) and not dim.rpartition("_")[2].isdigit() else dim for dim in dims
    ]
    return Input(helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, dims, None)
