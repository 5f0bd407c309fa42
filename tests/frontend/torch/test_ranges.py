"""A branch on a size is no free axis: what torch took for granted of sizes is told, enforced or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import bridge
from bridge.graph.ranges import Range

RAISED = "(?i)reshape|shape"  # what each backend says of a size that the model is not good for
TIME = ({0: "batch", 1: "time"},)


class Call(nn.Module):
    """A module whose forward is the function given."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function, self.layer = function, nn.Linear(4, 4)

    def forward(self, x, *others):
        return self.function(self, x, *others)


def cut(self, x):
    return (x[:, :50] if x.size(1) > 50 else x).cumsum(1)


def many(self, x):
    return self.layer(x) * 2 if x.size(0) >= 40 else self.layer(x)


def padded(self, x):
    return nn.functional.pad(x, (0, 0, 0, 5)) if x.size(1) < 5 else x * 2


def seven(self, x):
    return x * 2 if x.size(1) == 7 else x * 3


def even(self, x):
    return x * 2 if x.size(1) % 2 == 0 else x * 3


def small(self, x):
    return x * 2 if x.size(0) * x.size(1) < 10 else x * 3


def lone(self, x):
    return self.layer(x) * (3 if x.size(0) == 1 else 2)


def wide(self, x):
    return x.unfold(1, 5, 1).sum(-1)


def grouped(self, x):
    return x.reshape(x.size(0), -1, 3, 4).sum(2)


def halved(self, x):
    return x.reshape(x.size(0), x.size(1) // 2, 2, 4).sum(2)


def evens_alone(self, x):
    if x.size(1) % 2:
        raise ValueError("odd")
    return x * 2


def placed(self, x):
    return x + nn.functional.embedding(torch.arange(x.size(1)) + 2, torch.arange(168.0).reshape(42, 4))


def summed(self, x, y):
    return self.layer(x + y)


def longer(self, x, y):
    return x.sum(1) + y.sum(1) if x.size(1) > y.size(1) else x.sum(1)


def masked(self, x, past, mask):
    missing = past.size(1) + x.size(1) - mask.size(1)
    mask = nn.functional.pad(mask, (0, missing)) if missing > 0 else mask
    return torch.cat([past, x], 1) * mask[:, : past.size(1) + x.size(1), None]


def squeezed(self, x):
    return self.layer(x).sum(1, keepdim=True).squeeze()


def ranked(self, x):
    return squeezed(self, x).softmax(0)


def outputs(model: keras.Model, x: torch.Tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x.numpy()))


ASKED = [  # forward, dynamic_shapes, axes as told, sizes at which it is right, sizes at which it raises
    (cut, ({1: Dim("time", max=50)},), "time: 1 to 50", [(2, 1), (2, 50)], [(2, 51), (2, 300)]),
    (cut, ({1: Dim("time", max=40)},), "time: 1 to 40", [(2, 40)], [(2, 41)]),
    (padded, ({0: "batch", 1: Dim("time", min=5)},), "time: 5 or more", [(1, 5), (3, 90)], [(3, 4), (1, 1)]),
    (many, None, "1 to 39", [(1, 30), (39, 30)], [(40, 30), (99, 30)]),
    (lone, None, "2 or more", [(2, 30), (9, 30)], [(1, 30)]),
    (ranked, None, "2 or more", [(2, 30), (9, 30)], [(1, 30)]),
    (seven, ({1: Dim("time", min=8)},), "time: 8 or more", [(2, 8), (2, 40)], []),
    (even, ({1: 2 * Dim("half")},), "2*half free", [(2, 2), (2, 34)], [(2, 31), (2, 1)]),
    (wide, TIME, "time: 5 or more", [(1, 5), (2, 6)], []),
    (placed, TIME, "time: 1 to 40", [(2, 1), (2, 40)], [(2, 41), (2, 99)]),
    (grouped, TIME, "time free", [(1, 3), (2, 60)], []),
]


@pytest.mark.parametrize(("forward", "shapes", "told", "right", "raises"), ASKED)
def test_a_range_is_told_and_enforced(forward, shapes, told, right, raises, tmp_path: Path) -> None:
    module = Call(forward).eval()
    conversion = bridge.convert(module, torch.randn(2, 30, 4), dynamic_shapes=shapes)
    assert conversion.report.verified
    assert told in str(conversion.report.inputs[0])
    loaded = keras.models.load_model(conversion.save(tmp_path / "model.keras"), safe_mode=True)
    for size in right:
        x = torch.randn(*size, 4)
        want = module(x).detach().numpy()
        np.testing.assert_allclose(outputs(loaded, x), want, rtol=1e-5, atol=1e-5)
    for size in raises:
        with pytest.raises(Exception, match=RAISED):
            outputs(loaded, torch.randn(*size, 4))


def test_an_axis_that_is_squeezed_where_it_is_one_is_kept() -> None:
    """As long as nobody reads which axis comes first."""
    module = Call(squeezed).eval()
    conversion = bridge.convert(module, torch.randn(2, 30, 4))
    assert "batch free" in str(conversion.report.inputs[0])
    assert "at batch=1 the source drops the axes that are one" in str(conversion.report)
    for size in (1, 2, 9):
        x = torch.randn(size, 30, 4)
        want = module(x).detach().numpy().reshape(size, 4)
        np.testing.assert_allclose(outputs(conversion.model, x), want, rtol=1e-5, atol=1e-5)


class Emptied(nn.Module):
    """A sum of products of what holds nothing where its input is short, of which onnxruntime dies."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.weight = nn.BatchNorm2d(4), nn.Parameter(torch.randn(4, 3))

    def forward(self, x):
        inside = self.norm(nn.functional.pad(x, (0, -1, -1, -1)))
        return torch.einsum("bc...,cd->bd...", inside, self.weight)


def test_sizes_at_which_something_is_empty_are_not_run() -> None:
    shapes = ({0: "batch", 2: "height", 3: "width"},)
    report = bridge.convert(Emptied().eval(), torch.randn(2, 4, 9, 7), dynamic_shapes=shapes).report
    assert report.verified
    assert "height: 2 or more" in str(report.inputs[0])


REFUSED = [
    (cut, TIME, "time <= 50.*axis 1 .time. of input x.*Dim.'time', max=50."),
    (cut, ({1: Dim("time")},), "Dim.'time', max=50."),
    (cut, ({1: Dim("time", max=60)},), "Dim.'time', max=50."),
    (padded, TIME, "Dim.'time', min=5."),
    (many, TIME, "axis 0 .batch.*Dim.'batch', max=39."),
    (lone, ({0: "batch"},), "axis 0 .batch.*Dim.'batch', min=2."),
    (ranked, ({0: "batch"},), "batch > 1.*axis 0 .batch.*Dim.'batch', min=2."),
    (seven, TIME, r"Ne\(time, 7\)"),
    (even, TIME, r"Mod\(time, 2\).*2 \* torch.export.Dim"),
    (small, TIME, "batch.*and axis 1 .time. of input x cannot be free; fix"),
]


@pytest.mark.parametrize(("forward", "shapes", "match"), REFUSED)
def test_more_than_the_range_is_refused(forward, shapes, match: str) -> None:
    with pytest.raises(bridge.ExportError, match=match):
        bridge.convert(Call(forward).eval(), torch.randn(2, 30, 4), dynamic_shapes=shapes)


def test_a_relation_of_two_axes_is_refused() -> None:
    shapes = {"x": {1: "left"}, "others": ({1: "right"},)}
    with pytest.raises(bridge.ExportError, match="right < left.*fix what"):
        bridge.convert(
            Call(longer).eval(), (torch.randn(2, 9, 4), torch.randn(2, 5, 4)), dynamic_shapes=shapes
        )


def test_a_sum_of_axes_is_asked_for_by_name() -> None:
    module = Call(masked).eval()

    def converted(length: int, total: str) -> bridge.Conversion:
        args = torch.randn(2, 5, 4), torch.randn(2, 3, 4), torch.ones(2, length)
        shapes = {"x": {0: "batch", 1: "time"}, "others": ({0: "batch", 1: "past"}, {0: "batch", 1: total})}
        return bridge.convert(module, args, dynamic_shapes=shapes)

    with pytest.raises(
        bridge.ExportError, match="where total is the sum of the others, call it 'past . time'"
    ):
        converted(8, "total")
    with pytest.raises(bridge.SourceError, match="'past . time' is 8 in the example, and the axis 9 long"):
        converted(9, "past + time")
    result = converted(8, "past + time")
    assert result.report.proved
    assert "past + time free" in str(result.report.inputs[2])


PROGRAMS = [  # forward, axes as told, sizes at which it is right, sizes at which it raises
    (cut, "1 to 50", [(1, 50)], [(2, 51)]),
    (even, "2 or more in steps of 2", [(2, 2), (3, 34)], [(2, 31), (2, 1)]),
    (halved, "in steps of 2", [(2, 4), (3, 34)], [(2, 31)]),
]


@pytest.mark.parametrize(("forward", "told", "right", "raises"), PROGRAMS)
def test_a_program_is_defined_in_its_ranges_alone(forward, told, right, raises) -> None:
    shapes = ({0: Dim.AUTO, 1: Dim.AUTO},)
    module = Call(forward).eval()
    program = torch.export.export(module, (torch.randn(2, 30, 4),), dynamic_shapes=shapes)
    conversion = bridge.convert(program)
    assert conversion.report.verified
    assert told in str(conversion.report.inputs[0])
    for size in right:
        x = torch.randn(*size, 4)
        want = module(x).detach().numpy()
        np.testing.assert_allclose(outputs(conversion.model, x), want, rtol=1e-5, atol=1e-5)
    for size in raises:
        with pytest.raises(Exception, match=RAISED):
            outputs(conversion.model, torch.randn(*size, 4))


def test_sizes_at_which_forward_raises_are_told_in_steps() -> None:
    conversion = bridge.convert(Call(evens_alone).eval(), torch.randn(2, 30, 4), dynamic_shapes=TIME)
    assert conversion.report.verified
    assert "time: 2 or more in steps of 2" in str(conversion.report.inputs[0])


def test_axes_that_are_one_size_are_told() -> None:
    shapes = {"x": {0: "rows"}, "others": ({0: "lines"},)}
    conversion = bridge.convert(
        Call(summed).eval(), (torch.randn(3, 4), torch.randn(3, 4)), dynamic_shapes=shapes
    )
    assert any("lines is always as long as rows" in note for note in conversion.report.notes)


RANGES = [  # two, both, and whether the first covers the second
    (Range(), Range(5, 9), Range(5, 9), True),
    (Range(5, None), Range(1, 9), Range(5, 9), False),
    (Range(2, None, 2), Range(3, None, 3), Range(6, None, 6), False),
    (Range(2, None, 2), Range(4, 20, 4), Range(4, 20, 4), True),
    (Range(2, 20, 2), Range(4, None, 4), Range(4, 20, 4), False),
    (Range(1, None, 2), Range(3, None), Range(3, None, 2), False),
]


@pytest.mark.parametrize(("one", "other", "both", "covers"), RANGES)
def test_ranges_meet_and_cover(one: Range, other: Range, both: Range, covers: bool) -> None:
    assert one & other == other & one == both
    assert one.covers(other) == covers
    for size in range(1, 30):
        assert (size in both) == (size in one and size in other)
        assert both.nearest(size) in both
