"""What a proof computes is counted, and bounded: what is left out for it is told, and never less than a minimum done."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from checking import parse
from torch.utils.flop_counter import FlopCounterMode

import bridge
from bridge.conversion import load_source
from bridge.frontend.onnx.load import load
from bridge.passes import simplify
from bridge.passes.work import FAST
from bridge.verification import work
from bridge.verification.checks import ORT_KERAS, TORCH_KERAS
from bridge.verification.inputs.sampler import Sampler

SIZES = {"n": 3, "h": 8, "w": 6}
ROWS = {  # multiplications at these sizes, and one for each other number that is read or made
    "Conv": ("g (float[n,4,h,w] x) => (float[n,6,i,j] y) <float[6,2,3,1] k> { y = Conv <group = 2> (x, k) }", 3 * 6 * 36 * 6),
    "ConvTranspose": ("g (float[n,4,h] x) => (float[n,6,i] y) <float[4,6,3] k> { y = ConvTranspose (x, k) }", 3 * 4 * 8 * 18),
    "MatMul": ("g (float[n,h,w] x, float[n,w,h] z) => (float[n,h,h] y) { y = MatMul (x, z) }", 3 * 8 * 8 * 6),
    "Gemm": ("g (float[w,h] x, float[w,n] z) => (float[h,n] y) { y = Gemm <transA = 1> (x, z) }", 8 * 3 * 6),
    "Linear": ("g (float[n,h,5] x) => (float[n,h,7] y) <float[5,7] k, float[7] b> { a = MatMul (x, k)  y = Add (a, b) }", 24 * 35),
    "GRU": (
        "g (float[h,n,5] x) => (float[h,1,n,2] y) <float[1,6,5] k, float[1,6,2] r> { y = GRU <hidden_size = 2> (x, k, r) }",
        24 * (30 + 12),
    ),
    "Relu": ("g (float[n,h,w] x) => (float[n,h,w] y) { y = Relu (x) }", 2 * 144),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_work_of_an_operator(name):
    text, wanted = ROWS[name]
    graph = simplify(load(parse(text, {}))).graph
    others = [node for node in graph if node.op_type not in (*FAST, "Relu")]
    values = [value for node in others for value in (*node.inputs, *node.outputs)]
    moved = sum(math.prod(value.shape.evaluate(SIZES)) for value in values)
    assert work.Work(graph)(SIZES) == wanted + moved


@pytest.mark.parametrize(
    "name", ["vision.resnet", "vision.densenet", "vision.vit", "vision.mixer", "vision.dcgan"]
)
def test_work_of_a_network_is_what_torch_counts(name):
    module, args, shapes = importlib.import_module(f"models.{name}").make()
    simple = simplify(load_source(module, args, None, shapes).model)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*args)
    found = work.Work(simple.graph)(Sampler.of(simple, [x.numpy() for x in args]).exported())
    assert 1 <= found / (counter.get_total_flops() / 2) < 1.6  # the rest is what is added and compared


HEAVY = "g (float[n,t,9] x) => (float[n,t,9] y) <float[9,9] w> { a = MatMul (x, w)  y = Tanh (a) }"


def test_what_is_left_out_is_told(monkeypatch):
    monkeypatch.setattr(work, "BUDGET", 100)
    report = bridge.convert(parse(HEAVY, {})).report
    assert report.verified
    left = [note for note in report.notes if "billion multiplications" in note]
    assert any("; large numbers: it takes" in note for note in left)
    checks = [check for check in report.checks if check.leg == ORT_KERAS]
    assert len({check.sizes for check in checks if not check.values}) == 1 + work.OTHERS
    assert len({check.values for check in checks if check.values}) == work.KINDS
    assert not {check.at for check in checks} & {note.partition(" at ")[2].partition(":")[0] for note in left}
    assert report.verdict.endswith("at 2 choices of sizes and 2 kinds of odd values")
    assert bridge.convert(parse(HEAVY, {})).report.checks == report.checks


def test_small_sizes_come_first_where_others_take_much(monkeypatch):
    usual = bridge.convert(parse(HEAVY, {})).report
    assert not any("multiplications" in note for note in usual.notes)
    monkeypatch.setattr(work, "BUDGET", 4 * 9 * 9 * 10)
    few = bridge.convert(parse(HEAVY, {})).report
    assert few.checks[0].sizes != usual.checks[0].sizes
    n, t = (int(part.partition("=")[2]) for part in few.checks[0].sizes.split(", "))
    assert n * t <= 10


def test_sizes_that_the_user_gave_are_all_tried(monkeypatch):
    monkeypatch.setattr(work, "BUDGET", 100)
    report = bridge.convert(parse(HEAVY, {}), verify=bridge.Verify(sizes={"t": (7, 11, 30)})).report
    assert {7, 11, 30} <= {int(check.sizes.rpartition("=")[2]) for check in report.checks}


def test_the_examples_of_a_module_are_always_tried(monkeypatch):
    monkeypatch.setattr(work, "BUDGET", 100)
    module = torch.nn.Sequential(torch.nn.Linear(9, 9), torch.nn.Tanh())
    report = bridge.convert(module.eval(), torch.randn(50, 9), verify=bridge.Verify(training=True)).report
    batches = [
        check.sizes.rpartition("=")[2]
        for check in report.checks
        if check.leg == TORCH_KERAS and not check.values
    ]
    assert batches[:2] == ["50", "1"]
