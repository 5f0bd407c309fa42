"""What a source looks like, and what it makes of names, loops, layers of ours and what nobody can write."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from test_source_of_models import outputs, require_clean, run
from torch import nn

import bridge
from bridge.source.check import Comparison
from bridge.source.text import quoted

torch.set_num_threads(1)


def source_of(module: nn.Module, *args: torch.Tensor, folder: Path) -> str:
    """The source of a module, which gives what the converted model gives."""
    result = bridge.convert(module.eval(), args, verify=False)
    path = result.save_source(folder / "net.py")
    require_clean(path)
    arrays = [x.numpy() for x in args]
    for want, got in zip(outputs(result.model, arrays), outputs(run(path), arrays), strict=True):
        assert np.array_equal(want, got)
    text = path.read_text()
    assert text == result.to_source()
    return text


class Block(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.norm, self.wide, self.back = (
            nn.LayerNorm(width),
            nn.Linear(width, inner),
            nn.Linear(inner, width),
        )

    def forward(self, x):
        return x + self.back(torch.relu(self.wide(self.norm(x))))


class Stack(nn.Module):
    def __init__(self, *inner: int):
        super().__init__()
        self.blocks = nn.Sequential(*(Block(6, width) for width in inner))

    def forward(self, x):
        return self.blocks(x)


def test_equal_blocks_are_one_function_in_a_loop(tmp_path):
    text = source_of(Stack(12, 12, 12), torch.randn(2, 6), folder=tmp_path)
    assert text.count("def build_block(") == 1
    assert 'for i in range(3):\n        x = build_block(x, name=f"blocks_{i}")' in text.replace(
        "y = ", "x = "
    ).replace("(y,", "(x,")


def test_what_differs_is_a_parameter_and_a_column(tmp_path):
    text = source_of(Stack(12, 16, 20, 24), torch.randn(2, 6), folder=tmp_path)
    assert "def build_block(x, name, units):" in text
    assert "in enumerate((12, 16, 20, 24)):" in text


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(4, 4)

    def forward(self, x):
        return {"class": self.dense(torch.tanh(self.dense(x))), 'a "b"\n': x * 2}


def test_a_layer_that_is_called_twice_is_made_once_and_outputs_keep_their_names(tmp_path):
    text = source_of(Twice(), torch.randn(3, 4), folder=tmp_path)
    assert text.count("layers.Dense(") == 1
    assert '{"class": ' in text


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return torch.cond(x.sum() > 0, self.left, self.right, (x,))


def test_branches_are_models_of_functions_of_their_own(tmp_path):
    text = source_of(Branch(), torch.randn(3, 4), folder=tmp_path)
    assert "from bridge.layers import If" in text
    assert len(re.findall(r"^def build_", text, re.MULTILINE)) == 3


class Buffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.randn(5, 7))
        self.frozen, self.dense = nn.Linear(7, 3), nn.Linear(3, 3)
        self.frozen.requires_grad_(False)
        self.dense.bias.requires_grad_(False)

    def forward(self, x):
        return self.dense(self.frozen(x * self.table))


def test_buffers_lie_with_the_weights_and_what_is_frozen_stays_so(tmp_path):
    text = source_of(Buffers(), torch.randn(2, 5, 7), folder=tmp_path)
    assert "class Table(layers.Layer):" in text
    model = run(tmp_path / "net.py")
    assert [variable.path for variable in model.trainable_variables] == ["dense/kernel"]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


def test_recipes_that_are_not_plain_are_said(tmp_path):
    assert "bias_ih_l0 + bias_hh_l0" in source_of(Recurrent(), torch.randn(2, 4, 3), folder=tmp_path)


class Named(nn.Module):
    """Layers that Keras's operations would be called like, and names that are none in Python."""

    def __init__(self):
        super().__init__()
        names = ["conv", "add", "cumsum", "range", "x", "layers", "größe"]
        for name in names:
            self.add_module(name, nn.Linear(4, 4))
        self.names = names

    def forward(self, x):
        for name in self.names:
            x = torch.cumsum(self.get_submodule(name)(x), 1) + x
        return x


def test_layers_keep_apart_from_operations_and_from_what_python_has(tmp_path):
    text = source_of(Named(), torch.randn(2, 4), folder=tmp_path)
    assert re.search(r'"cumsum\w*_layer"', text)
    assert '"range"' in text


HOSTILE = 'x"): pass\nimport os  # """'


def test_names_are_only_ever_names(tmp_path):
    result = bridge.convert(nn.Linear(4, 4), torch.randn(2, 4), verify=False)
    x = keras.Input((4,), name=HOSTILE)
    y = keras.layers.Dense(3, name="dense")(x)
    model = keras.Model({HOSTILE: x}, {HOSTILE: y, "class": y}, name=HOSTILE)
    text = bridge.Conversion(model, result.weights, result.report).to_source()
    imported = {
        alias.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imported == {"keras"}


@pytest.mark.parametrize("text", ["a", 'a"b', "a'b", 'a\'b"c"', 'a\\"\n', "\x00\u2028é", "{x}", "'''"])
def test_a_text_stays_itself(text):
    assert ast.literal_eval(quoted(text)) == text


@keras.saving.register_keras_serializable(package="someone")
class Foreign(keras.layers.Layer):
    def call(self, x):
        return x


def test_what_cannot_be_written_is_refused_by_name():
    result = bridge.convert(nn.Linear(4, 4), torch.randn(2, 4), verify=False)
    x = keras.Input((4,))
    other = bridge.Conversion(keras.Model(x, Foreign(name="odd")(x)), result.weights, result.report)
    with pytest.raises(bridge.UnsupportedError, match=r"Foreign.*odd.*\.keras"):
        other.to_source()


def test_a_path_of_another_ending_is_refused(tmp_path):
    result = bridge.convert(nn.Linear(4, 4), torch.randn(2, 4), verify=False)
    with pytest.raises(bridge.OutputError, match=r"\.py"):
        result.save_source(tmp_path / "net.txt")


def test_another_model_is_told_apart():
    x, y = keras.Input((4,)), keras.Input((4,))
    model, other = keras.Model(x, keras.ops.add(x, 1.0)), keras.Model(y, keras.ops.add(y, 2.0))
    with pytest.raises(bridge.InternalError, match="makes another model"):
        Comparison({}).models(model, other)


def test_a_loaded_model_is_written_like_the_converted_one(tmp_path):
    result = bridge.convert(Stack(12, 12), torch.randn(2, 6), verify=False)
    result.save(tmp_path / "net.keras")
    assert bridge.load(tmp_path / "net.keras").to_source() == result.to_source()


def test_what_is_made_for_inference_is_written_too():
    module = nn.Sequential(nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4), nn.Dropout(0.1)).eval()
    text = bridge.convert(module, torch.randn(2, 3, 8), verify=False).for_inference().to_source()
    assert "layers.Conv1D(" in text
    assert "BatchNormalization" not in text
