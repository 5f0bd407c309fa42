"""From a conversion to its source, which is run and compared before anybody is given it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from bridge.errors import InternalError, OutputError, Refusal, UnsupportedError
from bridge.files.atomic import flush_to_disk, move, private_folder
from bridge.source.check import Comparison, run
from bridge.source.comments import comments
from bridge.source.file import written
from bridge.source.functions import Functions
from bridge.source.heads import identifier, snake
from bridge.source.places import Places
from bridge.source.reading import Reader
from bridge.source.text import quoted

if TYPE_CHECKING:
    from bridge.report.report import Report
    from bridge.weights.weight_map import WeightMap


class Source:
    """A model as the text that makes it.

    `text` is the file; `model` what running it makes, whose weights are to come.
    """

    def __init__(self, model: keras.Model, weights: WeightMap, report: Report):
        places = Places(report)
        kind = places.class_of(())
        name = identifier(snake(kind.rpartition(".")[2]) or model.name)
        reader = Reader(model, places, comments(weights))
        reader.read(model, name)
        functions = Functions(places, reader.graphs)
        self.tables, build = reader.tables, functions.made[-1].name
        steps, title = len(model.operations), kind or model.name
        frozen: tuple[str, ...] = ()
        for _ in range(2):  # what is frozen is seen by what is not
            self.text = written(functions.made, title, frozen)
            self.model = run(self.text, build, steps)
            self._compared = Comparison(reader.tables)
            self._compared.models(model, self.model)
            left = tuple(self._frozen(model, weights))
            if not left:
                return
            frozen = left
        raise InternalError(f"the source that was written trains what the model does not: {', '.join(left)}")

    def _pairs(self) -> Iterator[tuple[keras.Variable, keras.Variable]]:
        """The variables of both models."""
        for layer, made in self._compared.layers.values():
            if isinstance(layer, keras.layers.Layer):
                yield from zip(layer.variables, made.variables, strict=True)

    def _frozen(self, model: keras.Model, weights: WeightMap) -> Iterator[str]:
        """The variables that do not train in `model`, as one writes them, where they do in what was made."""
        entries = {id(entry.variable): entry for entry in weights}
        own = {layer.name for layer in model.layers}
        for variable, made in self._pairs():
            if variable.trainable == made.trainable:
                continue
            entry = entries.get(id(variable))
            if entry is None or entry.layer not in own or not re.fullmatch(r"[\w.]+", entry.attribute):
                reason = (
                    "is frozen inside of another layer, so that it is no source; save() writes a .keras file"
                )
                raise UnsupportedError([Refusal("variable", variable.path, reason)])
            layer = self._compared.layers[id(model.get_layer(entry.layer))][1]
            yield f"model.get_layer({quoted(layer.name)}).{entry.attribute}"

    def fill(self) -> None:
        """Give the model its weights."""
        for variable, made in self._pairs():
            made.assign(variable)
        for name, table in self.tables.items():
            self.model.get_layer(name).table.assign(table)


def to_source(model: keras.Model, weights: WeightMap, report: Report) -> str:
    """As `Conversion.to_source`, of its parts."""
    return Source(model, weights, report).text


def save_source(path: Path, model: keras.Model, weights: WeightMap, report: Report) -> None:
    """Write the source to `path` and the weights beside it, both or neither."""
    if path.suffix != ".py":
        raise OutputError(f"{path}: a source is written as .py; give the path that ending")
    source = Source(model, weights, report)
    source.fill()
    beside = path.with_suffix(".weights.h5")
    with private_folder(path) as room:
        text, numbers = room / path.name, room / beside.name
        text.write_text(source.text, encoding="utf-8")
        source.model.save_weights(numbers)
        flush_to_disk(text, numbers)
        move((numbers, beside), (text, path))
