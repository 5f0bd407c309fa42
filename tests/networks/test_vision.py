"""Every network in `models/vision/`: converted, proved at three sizes and in double precision, as a person would
have written it, with a budget of transposes."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from prepared import VISION, make
from sampling import but

import bridge

BUDGET = {
    # network: transposes inside, doors (image inputs and outputs of the NCHW signature)
    "aspp": (0, 2),
    "convnext": (0, 1),
    "dcgan": (0, 1),
    "densenet": (0, 1),
    "detector": (0, 1),
    "fpn": (0, 5),
    "inception": (0, 1),
    "mixer": (4, 1),  # each of two blocks turns patches and channels round and back
    "mobilenet": (0, 1),
    "mobilenet:make_v2": (0, 1),
    "resnet": (0, 1),
    "resnet:make_bottleneck": (0, 1),
    "shufflenet": (0, 1),  # a shuffle is a Gather of channels
    "super_resolution": (0, 2),
    "swin": (
        12,
        1,
    ),  # each of four blocks cuts windows, joins them, and turns its table of biases to heads first
    "unet": (0, 2),
    "unet:make_bilinear": (0, 2),
    "vgg": (0, 1),
    "video": (0, 1),
    "video:make_factored": (0, 1),
    "vit": (0, 1),
    "wavenet": (0, 2),
}
NETWORKS = [  # those of another maker are like the first
    pytest.param(name, marks=pytest.mark.slow) if ":" in name else name for name in BUDGET
]
STATISTICS = ("running_mean", "running_var")

torch.set_num_threads(1)


LARGE = "aspp densenet fpn inception shufflenet".split()  # whose proofs take ten seconds and more


@functools.cache
def converted(name: str, proved: bool) -> tuple[bridge.Conversion, torch.nn.Module]:
    module, args, dynamic_shapes = make(f"vision.{name}")
    verify = bridge.Verify(float64=True) if proved else False
    return bridge.convert(module, args, dynamic_shapes=dynamic_shapes, verify=verify), module


def built(name: str) -> tuple[bridge.Conversion, torch.nn.Module]:
    """As `converted`, without the proof of a large one."""
    return converted(name, name not in LARGE)


@pytest.mark.parametrize("name", but(LARGE, NETWORKS))
def test_proved_three_ways_at_several_sizes_and_in_double(name: str) -> None:
    report = converted(name, True)[0].report
    assert report.verified
    assert len({check.sizes for check in report.checks}) >= 3
    ordinary = [check for check in report.checks if check.dtype == "float32" and not check.values]
    assert max(check.error for check in ordinary) <= 1e-5
    assert max(check.error for check in report.checks if check.dtype == "float64") <= 1e-10
    assert max(row.error or 0 for row in report.rows) <= 1e-3  # at every node


def test_every_network_has_a_budget() -> None:
    assert {f"vision.{name}" for name in BUDGET} == set(VISION)


@pytest.mark.parametrize("name", NETWORKS)
def test_transposes_stay_within_the_budget(name: str) -> None:
    assert built(name)[0].report.transposes == sum(BUDGET[name])


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_torchs(name: str) -> None:
    conversion, module = built(name)
    statistics = sum(b.numel() for n, b in module.named_buffers() if n.endswith(STATISTICS))
    assert conversion.report.trainable == sum(p.numel() for p in module.parameters())
    frozen = [v for v in conversion.model.non_trainable_variables if "seed" not in v.path]
    assert sum(int(np.prod(v.shape)) for v in frozen) == statistics
    assert not conversion.report.custom_layers


@pytest.mark.parametrize("name", NETWORKS)
def test_an_untouched_model_comes_back_bit_for_bit(name: str) -> None:
    conversion, module = built(name)
    state = conversion.weights.to_torch()
    for key, value in module.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize("name", ["resnet", "unet", "fpn", "video"])
def test_channels_last_leaves_no_transpose_at_the_doors(name: str) -> None:
    module, args, shapes = make(f"vision.{name}")
    conversion = bridge.convert(module, args, dynamic_shapes=shapes, channels_last=True)
    assert conversion.report.verified
    assert conversion.report.transposes == 0
    assert conversion.model.inputs[0].shape[-1] == args[0].shape[1]
    assert any("channels last" in note for note in conversion.report.notes)
