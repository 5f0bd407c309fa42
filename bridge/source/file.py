"""The whole file: what it imports, its functions, and the model with its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bridge import layers as own_layers
from bridge.source.expressions import Expression, Loop, Name, Node, Statement
from bridge.source.functions import Function
from bridge.source.names import named
from bridge.source.nesting import nested
from bridge.source.places import KINDS
from bridge.source.reading import TABLE
from bridge.source.text import STEP, body_lines, comment_lines, definition, flat, lines

TABLE_LINES = '''
class Table(layers.Layer):
    """Numbers that do not train, as a buffer of torch's: they lie with the weights."""

    def __init__(self, shape, dtype, **settings):
        super().__init__(trainable=False, **settings)
        self.table = self.add_weight(
            shape=shape, dtype=dtype, initializer="zeros", autocast=False
        )

    def call(self, x):
        return ops.convert_to_tensor(self.table)
'''


def written(functions: Sequence[Function], title: str, frozen: Sequence[str]) -> str:
    """The text of the file. The last of the functions makes the model, whose variables `frozen` do not train."""
    names = [function.name for function in functions]
    *before, whole = (named(nested(function), names) for function in functions)
    parts = [line for function in before for line in _function_lines(function, ())]
    parts += _function_lines(whole, frozen)
    load, used = whole.name.replace("build_", "load_", 1), {head for one in functions for head in _heads(one)}
    head, body = "\n".join(_head(title, used)), "\n".join(parts)
    table = f"\n{TABLE_LINES}" if TABLE in used else ""
    return f"{head}\n{table}{body}\n\n\n{_end(load, whole.name)}\n"


def _heads(whole: Any) -> Iterator[str]:
    """What is called: `layers.Dense`, `np.array`, `If`."""
    if isinstance(whole, tuple):
        for part in whole:
            yield from _heads(part)
    elif isinstance(whole, Node):
        yield "np.array" if whole.form == "array" else str(whole.head) if whole.form == "call" else ""
        yield from _heads((*whole.parts, *(value for _, value in whole.settings)))
    elif isinstance(whole, Function):
        yield from _heads((whole.outputs, *whole.body))
    elif isinstance(whole, Statement | Loop):
        yield from _heads(whole.value if isinstance(whole, Statement) else whole.body)


def _head(title: str, used: set[str]) -> Iterator[str]:
    yield f'"""{_told(title)}, in Keras."""'
    yield ""
    yield "from pathlib import Path"
    yield ""
    yield "import keras"
    places = {name.partition(".")[0] for name in used if "." in name} | (
        {"layers", "ops"} if TABLE in used else set()
    )
    if "np" in places:
        yield "import numpy as np"
    if own := sorted(name for name in used if name.isidentifier() and hasattr(own_layers, name)):
        yield f"from bridge.layers import {', '.join(own)}  # what Keras lacks"
    if names := [name for name in ("layers", "ops") if name in places]:
        yield f"from keras import {', '.join(names)}"


def _told(text: str) -> str:
    """`text` within a docstring."""
    return "".join(c if c.isprintable() and c not in '"\\' else " " for c in text)


def _function_lines(function: Function, frozen: Sequence[str]) -> Iterator[str]:
    yield ""
    yield ""
    parameters = {**dict.fromkeys(map(str, function.inputs)), **dict.fromkeys(function.parameters)}
    yield from definition(function.name, parameters | function.defaults)
    if function.kind:
        yield f'{" " * STEP}"""{_told(KINDS.get(function.kind, function.kind))}"""'
    *before, last = function.body or (None,)
    if not frozen and isinstance(last, Statement) and last.targets == (_name_of(function.outputs),):
        yield from body_lines(tuple(before))
        yield from comment_lines(last.comment, STEP) if last.comment else ()
        yield from lines("return ", last.value, "", STEP)
        return
    yield from body_lines(function.body)
    if not frozen:
        yield from _returned(function)
        return
    yield from lines("model = ", function.outputs, "", STEP)
    yield f"{' ' * STEP}# Frozen, as in torch"
    for path in frozen:
        yield f"{' ' * STEP}{path}.trainable = False"
    yield f"{' ' * STEP}return model"


def _name_of(outputs: Expression) -> str | None:
    return outputs.text if isinstance(outputs, Name) else None


def _returned(function: Function) -> Iterator[str]:
    outputs = function.outputs
    if isinstance(outputs, Node) and outputs.form == "tuple":
        yield f"{' ' * STEP}return {', '.join(map(flat, outputs.parts))}"
    else:
        yield from lines("return ", outputs, "", STEP)


def _end(load: str, build: str) -> str:
    return f'''def {load}():
    """With the weights beside this file."""
    model = {build}()
    model.load_weights(Path(__file__).with_suffix(".weights.h5"))
    return model


if __name__ == "__main__":
    {load}().summary()'''
