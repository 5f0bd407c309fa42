"""The networks of `models/`, as tests name them: the module, and what makes the network where that is not `make`."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

MODELS = [
    "attention_pooling",
    "autoencoder",
    "char_stream",
    "conv_gru",
    "crnn",
    "crnn:make_fixed",
    "digit_images",
    "digit_strips",
    "digits",
    "forecaster",
    "frames",
    "hand_stepped",
    "language_model",
    "packed",
    "residual_lstm",
    "seq2seq",
    "speech",
    "sunspots",
    "tagger",
    "text_classifier",
]
VISION = [
    "vision.aspp",
    "vision.convnext",
    "vision.dcgan",
    "vision.densenet",
    "vision.detector",
    "vision.fpn",
    "vision.inception",
    "vision.mixer",
    "vision.mobilenet",
    "vision.mobilenet:make_v2",
    "vision.resnet",
    "vision.resnet:make_bottleneck",
    "vision.shufflenet",
    "vision.super_resolution",
    "vision.swin",
    "vision.unet",
    "vision.unet:make_bilinear",
    "vision.vgg",
    "vision.video",
    "vision.video:make_factored",
    "vision.vit",
    "vision.wavenet",
]


def make(name: str) -> Any:
    """The network, examples of its inputs, and their dynamic shapes."""
    module, _, maker = name.partition(":")
    return getattr(importlib.import_module(f"models.{module}"), maker or "make")()


def two_biases(network: nn.Module) -> int:
    """How many numbers fewer Keras has, which keeps the sum of torch's two biases (but both of a GRU)."""
    kinds = (nn.LSTM, nn.RNN, nn.LSTMCell, nn.RNNCell)
    second = (
        parameter.numel()
        for name, parameter in network.named_parameters()
        for owner, _, leaf in [name.rpartition(".")]
        if leaf.startswith("bias_hh") and isinstance(network.get_submodule(owner), kinds)
    )
    return sum(second)
