"""`KINDS`: for each Keras layer that can be filled, its rule and its settings. The one table of what is compared.

Every argument of a Keras layer and of a torch module is in a `Setting`, or in `FREE` or `FREE_IN_TORCH` with the reason
why it needs none; the tests hold both sides to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bridge.handwritten import rules
from bridge.handwritten.keras_slots import SEPARABLE, Slot, nearest
from bridge.handwritten.rules import Rule
from bridge.handwritten.settings import (
    Given,
    Setting,
    When,
    backwards,
    close,
    falsy,
    last_axes,
    one_axis,
    same_crops,
    same_function,
    same_pads,
    shared_but_channels,
)
from bridge.handwritten.torch_parts import Part

BY_ITSELF, TRAINING = When.BY_ITSELF, When.TRAINING


@dataclass(frozen=True)
class Kind:
    """A class of Keras layers: what fills it, from which classes of torch, and what is compared."""

    rule: Rule | None  # None for a layer around others, which has settings only
    torch: str  # the names of the classes
    settings: tuple[Setting, ...]
    # Variable -> the axis along the input's features
    features: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, int] = field(default_factory=dict)  # and along the output's


FREE = {  # arguments of Keras that need no comparison
    "names and numbers' types": "name trainable dtype",
    "where training starts": "*_initializer unit_forget_bias seed",
    "what training is drawn to, for which torch has its optimizer": "*_regularizer *_constraint",
    "the shapes of the weights say it": "units filters kernel_size input_dim output_dim depth_multiplier output_shape "
    "key_dim value_dim",
    "the weights are arranged by it": "equation bias_axes",
    "where one side has none, the other's has to be neutral": "use_bias center scale",
    "the order of the axes, not what is computed": "data_format time_major",
    "which of the outputs are given": "return_sequences return_state",
    "how it is computed, not what": "unroll implementation synchronized softmax_robust_masking",
    "of the inputs": "batch_input_shape input_length query_shape key_shape value_shape",
    "compared by itself": "cell cells layer backward_layer",
    "counts with a mask only, which `mask_zero` makes": "zero_output_for_mask",
    "only with renorm": "renorm_clipping renorm_momentum",
    "of depthwise convolutions, in Keras 2: always 1": "groups",
}
FREE_IN_TORCH = {
    "numbers' types and places": "device dtype process_group",
    "the shapes of the weights say it": "in_features out_features in_channels out_channels kernel_size num_embeddings "
    "embedding_dim num_channels num_features num_parameters input_size hidden_size num_layers bidirectional proj_size "
    "embed_dim kdim vdim normalized_shape mode",
    "where one side has none, the other's has to be neutral": "bias affine elementwise_affine add_bias_kv",
    "where training starts": "init _weight _freeze",
    "the order of the axes, not what is computed": "batch_first",
    "only with max_norm": "norm_type",
    "of InstanceNorm: only with running statistics": "momentum",
    "of transposed convolutions: always zeros": "padding_mode",
    "the form of gradients": "sparse",
    "between the layers of an RNN, where Keras has a Dropout": "dropout",
}

activation = Setting("activation", always="linear", same=same_function, when=BY_ITSELF)
whole = (Setting("quantization_config", same=falsy), Setting("lora_rank", same=falsy))  # kernels as they are
epsilon = Setting("epsilon", "eps", same=close)
channels = Setting("axis", same=last_axes, when=BY_ITSELF)
window = (
    Setting("strides", "stride"),
    Setting("dilation_rate", "dilation"),
    Setting("padding", "padding padding_mode", same=same_pads, when=BY_ITSELF),
)
convolution = Kind(
    rules.convolution, "Conv1d Conv2d Conv3d", (*window, Setting("groups", "groups"), activation)
)
transposed = Kind(
    rules.transposed,
    "ConvTranspose1d ConvTranspose2d ConvTranspose3d",
    (
        Setting("strides", "stride"),
        Setting("dilation_rate", "dilation"),
        Setting("padding", "padding output_padding", same=same_crops, when=BY_ITSELF),
        Setting("output_padding", "output_padding padding", same=same_crops, when=BY_ITSELF),
        Setting("", "groups", always=1),
        activation,
    ),
)
each_channel = Setting(
    "", "groups", always=1, same=lambda given, have, want: want == given.module.in_channels
)
by_channel = (*window, each_channel)
depthwise = Kind(rules.depthwise, "Conv1d Conv2d", (*by_channel, activation))
separable_depthwise = Kind(rules.separable_depthwise, "Conv1d Conv2d", by_channel)
separable_pointwise = Kind(
    rules.pointwise,
    "Conv1d Conv2d",
    (
        Setting("", "stride", always=1, same=lambda given, have, want: set(want) == {1}),
        Setting(
            "",
            "padding",
            always=0,
            same=lambda given, have, want: want == "valid" or set(want) <= {0, "same"},
        ),
        Setting("", "groups", always=1),
        activation,
    ),
)
dropped = (
    Setting("dropout", always=0.0, when=TRAINING),
    Setting("recurrent_dropout", always=0.0, when=TRAINING),
)
gates = Setting("recurrent_activation", always="sigmoid", same=same_function)
inner = Setting("activation", always="tanh", same=same_function)
lstm, gru, rnn = (inner, gates, *dropped), (inner, gates, *dropped), dropped
in_time = (
    Setting("go_backwards", always=False, same=backwards, when=BY_ITSELF),
    Setting("stateful", always=False),
)
IN = {"kernel": 0}
SMALLEST = float(np.finfo(np.float32).eps)  # what torch's RMSNorm takes where none is given
ONE = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance", "scale"), 0)

KINDS: dict[str, Kind] = {
    "Dense": Kind(
        rules.renamed(kernel="weight: o i -> i o", bias="bias"),
        "Linear MultiheadAttention",
        (activation, *whole),
        IN,
        {"kernel": 1, "bias": 0},
    ),
    "EinsumDense": Kind(rules.einsum_dense, "Linear MultiheadAttention", (activation, *whole)),
    "Embedding": Kind(
        rules.renamed(embeddings="weight"),
        "Embedding",
        (
            Setting("mask_zero", always=False, when=BY_ITSELF),
            Setting("", "max_norm"),
            Setting("", "padding_idx", when=TRAINING),
            Setting("", "scale_grad_by_freq", always=False, when=TRAINING),
            *whole,
        ),
    ),
    "Conv1D": convolution,
    "Conv2D": convolution,
    "Conv3D": convolution,
    "Conv1DTranspose": transposed,
    "Conv2DTranspose": transposed,
    "Conv3DTranspose": transposed,
    "DepthwiseConv1D": depthwise,
    "DepthwiseConv2D": depthwise,
    **{f"{name} depthwise": separable_depthwise for name in SEPARABLE},
    **{f"{name} pointwise": separable_pointwise for name in SEPARABLE},
    "BatchNormalization": Kind(
        rules.renamed(gamma="weight", beta="bias", moving_mean="running_mean", moving_variance="running_var"),
        "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm",
        (
            channels,
            epsilon,
            Setting("momentum", "momentum", same=close, when=TRAINING, to_keras=lambda m: m and 1 - m),
            Setting("renorm", always=False, when=TRAINING),
            Setting("", "track_running_stats", always=True),
        ),
        ONE,
    ),
    "LayerNormalization": Kind(
        rules.scale_and_shift,
        "LayerNorm",
        (
            Setting("axis", "normalized_shape", same=last_axes, when=BY_ITSELF),
            epsilon,
            Setting("rms_scaling", always=False),
        ),
        ONE,
    ),
    "GroupNormalization": Kind(
        rules.scale_and_shift,
        "GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d",
        (
            channels,
            epsilon,
            Setting("groups", "num_groups num_features"),
            Setting("", "track_running_stats", always=False),
        ),
    ),
    "RMSNormalization": Kind(
        rules.renamed(scale="weight"),
        "RMSNorm",
        (
            Setting("axis", "normalized_shape", same=last_axes, when=BY_ITSELF),
            Setting(
                "epsilon",
                "eps",
                same=close,
                to_keras=lambda eps: float(np.finfo("f").eps) if eps is None else eps,
            ),
        ),
        ONE,
    ),
    "PReLU": Kind(rules.prelu, "PReLU", (Setting("shared_axes", same=shared_but_channels, when=BY_ITSELF),)),
    "LSTMCell": Kind(rules.recurrent("LSTM"), "LSTM LSTMCell", lstm, IN),
    "GRUCell": Kind(
        rules.recurrent("GRU", "rows"), "GRU GRUCell", (Setting("reset_after", always=True), *gru), IN
    ),
    "SimpleRNNCell": Kind(
        rules.recurrent("RNN"),
        "RNN RNNCell",
        (Setting("activation", "nonlinearity", same=same_function), *rnn),
        IN,
    ),
    "CuDNNLSTM": Kind(rules.recurrent("LSTM", "in a row", cudnn=True), "LSTM", in_time),
    "CuDNNGRU": Kind(rules.recurrent("GRU", "in a row", cudnn=True), "GRU", in_time),
    "RNN": Kind(None, "", in_time),
    "Bidirectional": Kind(None, "", (Setting("merge_mode", always="concat", when=BY_ITSELF),)),
    "TimeDistributed": Kind(None, "", ()),
    "MultiHeadAttention": Kind(
        None,
        "",
        (
            Setting("num_heads", "num_heads"),
            Setting("dropout", "dropout", when=TRAINING),
            Setting("attention_axes", same=one_axis, when=BY_ITSELF),
            Setting("use_gate", same=falsy),
            Setting("sliding_window", same=falsy),
            Setting("", "add_zero_attn", always=False),
        ),
    ),
}


def kind_of(slot: Slot) -> str | None:
    """The name in `KINDS` of what a slot is; None for what no rule fills."""
    separable = nearest(slot.layer, SEPARABLE)
    kind = f"{separable} {slot.role}" if separable else nearest(slot.layer, KINDS)
    return kind if kind and KINDS[kind].rule else None


def differences(slot: Slot, part: Part) -> Iterator[tuple[When, str]]:
    """The settings that make the slot, or a layer around it, another function than torch's part."""
    for layer in (*slot.around, slot.layer):
        kind = kind_of(slot) if layer is slot.layer else nearest(layer, KINDS)
        for setting in KINDS[kind].settings if kind else ():
            said = setting.difference(Given(slot, layer, part))
            if said:
                yield setting.when, said


def other_class(slot: Slot, part: Part) -> str | None:
    """The class of torch if it is one that computes something else than the slot's."""
    module, kind = part.module, kind_of(slot)
    if kind is None or module is None or nearest(module, KINDS[kind].torch.split()):
        return None
    theirs = type(module)
    return f"{theirs.__name__}" if theirs.__module__.startswith("torch.nn.modules.") else None


def own_class(slot: Slot, part: Part) -> str | None:
    """The class of either side, if somebody wrote it, so that its settings do not say what it computes."""
    kind = kind_of(slot)
    if kind is None:
        return None
    torch, keras = KINDS[kind].torch.split(), kind.split()[:1]
    for thing, names, method in ((part.module, torch, "forward"), (slot.layer, keras, "call")):
        known = next((cls for cls in type(thing).__mro__ if cls.__name__ in names), None)
        if thing is not None and (
            known is None or getattr(type(thing), method) is not getattr(known, method)
        ):
            return type(thing).__name__
    return None
