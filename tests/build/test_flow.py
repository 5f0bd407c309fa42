"""What a report's rows read, and where its outputs come from."""

import pytest
import torch
from torch import nn

import bridge


class Skip(nn.Module):
    """A block beside a skip, and a part of it as a second output."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, y):
        inside = self.first(x).relu()
        return self.second(inside) + y, inside


def test_rows_read_what_they_are_computed_of():
    report = bridge.convert(Skip().eval(), (torch.randn(2, 4), torch.randn(2, 4))).report
    names = ["y", "x", *(row.op for row in report.rows)]
    reads = {row.op + row.name: [names[place + 2] for place in row.reads] for row in report.rows}
    assert list(reads.values()) == [["x"], ["Linear"], ["Relu"], ["Linear", "y"]]
    assert [names[value.row + 2] for value in report.outputs] == ["Add", "Relu"]


def test_rows_of_one_node_stand_one_after_the_other():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=(0, 1)), nn.ReLU()).eval()
    report = bridge.convert(module, torch.randn(2, 3, 7, 5)).report
    assert [row.layer for row in report.rows] == ["ZeroPadding2D", "Conv2D", "ReLU"]
    assert [row.reads for row in report.rows] == [(-1,), (0,), (1,)]
    assert {row.shape for row in report.rows} == {"(batch, 4, 5, 5)"}


def test_what_only_sizes_come_from_is_not_read():
    class Flat(nn.Module):
        def forward(self, x, y):
            return x.reshape(y.shape[0], -1)

    shapes = ({0: "batch"}, {0: "batch"})
    report = bridge.convert(Flat(), (torch.randn(3, 4, 2), torch.randn(3, 5)), dynamic_shapes=shapes).report
    assert [row.reads for row in report.rows] == [(-1,)]


@pytest.fixture(scope="module")
def report():
    return bridge.convert(Skip().eval(), (torch.randn(2, 4), torch.randn(2, 4))).report


def test_a_report_says_what_was_drawn_and_how_many_nodes_there_were(report):
    assert all(value.drawn.startswith("float32, -") for value in report.inputs)
    assert report.nodes["export"] >= report.nodes["simplify"] == report.nodes["plan"] == 4
    assert set(report.nodes) == {"export", "simplify", "plan", "build"}
    assert report.layers["first"] == "Dense(units=4)"
    assert {variable.layer for variable in report.variables} == {"first", "second"}
    assert bridge.Report.from_json(report.to_json()) == report
