"""A LiteRT file (`.tflite`) of built-in operators alone, which every device has: without the Flex delegate."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bridge.errors import Refusal, SourceError, UnsupportedError, imported, short_message
from bridge.serving.litert_ops import in_litert_operators
from bridge.serving.saved_model import FROZEN, bare_forms, require_tensorflow, save, served
from bridge.serving.written import Made, Written

if TYPE_CHECKING:
    from bridge.serving.proof import Trial
    from bridge.verification.metrics import Arrays

TITLE = "a LiteRT file"
OTHERS = "'onnx', 'openvino' or 'saved_model'"
PLACE = re.compile(r'"([^"@]+)@__inference_pruned')  # of the operation, in names of layers
MISSING = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")


def write(made: Made, path: Path) -> Written:
    """The file, of which free axes stay free. Raises `UnsupportedError` where LiteRT has no operator for a layer."""
    interpreter = imported("ai_edge_litert.interpreter", TITLE, "litert")
    require_tensorflow(TITLE)
    samples = list(_samples(made)) if made.calibration is not None else None
    path.write_bytes(_converted(made, samples, path.with_suffix(".saved_model")))
    try:
        runner = interpreter.Interpreter(model_path=str(path)).get_signature_runner()
    except Exception as error:
        raise UnsupportedError([f"LiteRT does not load this model: {short_message(error)}"]) from error
    tried = None if samples is None else list(_trials(samples))
    return Written([path], made.by_names(lambda given: runner(**given)), trials=tried)


def _converted(made: Made, samples: list[Arrays] | None, folder: Path) -> bytes:
    """The file, by way of a SavedModel in `folder`."""
    import tensorflow as tf

    with in_litert_operators():
        save(folder, served(made.model, bare_forms(made.model)[FROZEN]))
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if made.precision is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if made.precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if samples is not None:
        named = [dict(zip(made.inputs, arrays, strict=True)) for arrays in samples]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: iter(named)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the interpreter that TensorFlow calibrates with
            return converter.convert()
    except Exception as error:
        raise UnsupportedError(list(_refusals(made, str(error)))) from error


def _samples(made: Made) -> Iterator[Arrays]:
    """What is to be calibrated with, in the order and of the types of the inputs. Raises `SourceError`."""
    types = [x.dtype for x in made.model.inputs]
    for number, given in enumerate(made.calibration or ()):
        if isinstance(given, Mapping):
            missing = [name for name in made.inputs if name not in given]
            listed = [] if missing else [given[name] for name in made.inputs]
        else:
            listed = list(given) if isinstance(given, list | tuple) else [given]
        if len(listed) != len(types):
            names = ", ".join(made.inputs)
            raise SourceError(f"calibration: example {number} is not an array for each input: {names}")
        yield [np.asarray(array, dtype) for array, dtype in zip(listed, types, strict=True)]


def _trials(samples: Iterable[Arrays]) -> Iterator[Trial]:
    for number, arrays in enumerate(samples):
        yield f"example {number}", "", arrays


def _refusals(made: Made, text: str) -> Iterator[Refusal]:
    """What the converter lacks an operator for, by the layers of the model; else what it says."""
    rows = {row.name: row for row in made.report.rows if row.name}
    lacking: dict[tuple[str, str], None] = {}  # where, and what
    for line in text.splitlines():
        if (missing := MISSING.search(line)) is not None:
            found = PLACE.search(line)
            lacking[found[1] if found else "", missing[1]] = None
    for place, operator in lacking:
        parts = [name for part in place.split("/") for name in (part, re.sub(r"_\d+$", "", part))]
        row = next((rows[part] for part in parts if part in rows), None)
        reason = f"LiteRT has no built-in operator for it (TensorFlow's {operator}); export it as {OTHERS}"
        if row is None:
            yield Refusal(operator, "", reason)
        else:
            yield Refusal(f"{row.op} ({row.layer})", row.path, reason, row.line)
    if not lacking:
        yield Refusal("LiteRT", "", f"{short_message(Exception(text))}; export it as {OTHERS}")
