"""Architectures of the public `transformers` library: small configurations with tables of their default size, and what
people call them with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How many examples, of how many tokens; the example to convert with, as it stands."""

    batch: int = 1
    length: int = 12

    @property
    def target(self) -> int:
        """Tokens that a decoder has behind an encoder."""
        return self.length // 2


# --- what people call them with ------------------------------------------------------------------------------------


def _ids(config: Any, size: Size) -> Any:
    import torch

    return torch.randint(10, min(config.vocab_size, 1000), (size.batch, size.length))


def _mask(size: Size) -> Any:
    import torch

    kept = torch.arange(size.length) < size.length - size.length // 4
    return kept.long().repeat(size.batch, 1)


def text(config: Any, size: Size) -> Inputs:
    """What a tokenizer gives."""
    return {"input_ids": _ids(config, size), "attention_mask": _mask(size)}


def question(config: Any, size: Size) -> Inputs:
    """Text with the three separators that some models look for."""
    given = text(config, size)
    given["input_ids"][:, [1, 3, 4]] = config.sep_token_id
    return given


def plain(config: Any, size: Size) -> Inputs:
    """For models that know no mask."""
    return {"input_ids": _ids(config, size)}


def _begun(config: Any, size: Size) -> Inputs:
    return {"decoder_input_ids": _ids(config, Size(size.batch, size.target))}


def pair(config: Any, size: Size) -> Inputs:
    """An encoder's text, and the decoder's beginning."""
    return {**text(config, size), **_begun(config, size)}


def image(config: Any, size: Size) -> Inputs:
    import torch

    side, channels = getattr(config, "image_size", 64), getattr(config, "num_channels", 3)
    side = side if isinstance(side, int) else side[0]
    return {"pixel_values": torch.randn(size.batch, channels, side, side)}


def image_and_text(config: Any, size: Size) -> Inputs:
    return {**image(config.vision_config, size), **text(config.text_config, size)}


def sound(config: Any, size: Size) -> Inputs:
    import torch

    return {"input_values": torch.randn(size.batch, 320 * size.length)}


def heard(config: Any, size: Size) -> Inputs:
    return {**sound(config, size), **_begun(config, size)}


def spectrogram(config: Any, size: Size) -> Inputs:
    import torch

    return {"input_values": torch.randn(size.batch, config.max_length, config.num_mel_bins)}


def features(config: Any, size: Size) -> Inputs:
    import torch

    frames = 2 * config.max_source_positions
    return {"input_features": torch.randn(size.batch, config.num_mel_bins, frames), **_begun(config, size)}


def series(config: Any, size: Size) -> Inputs:
    import torch

    return {"past_values": torch.randn(size.batch, config.context_length, config.num_input_channels)}


def patches(config: Any, size: Size) -> Inputs:
    import torch

    past = torch.randn(size.batch, config.context_length)
    return {
        "past_values": past,
        "past_values_padding": torch.zeros_like(past),
        "freq": torch.zeros(size.batch, 1, dtype=torch.long),
    }


def covariates(config: Any, size: Size) -> Inputs:
    import torch

    past = config.context_length + max(config.lags_sequence)
    return {
        "past_values": torch.randn(size.batch, past),
        "past_time_features": torch.randn(size.batch, past, config.num_time_features),
        "past_observed_mask": torch.ones(size.batch, past),
    }


# --- the architectures ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Architecture:
    """A class of `transformers`, the parts of its configuration that are not the default, and its inputs."""

    model: str
    config: str
    inputs: Callable[[Any, Size], Inputs]
    settings: dict[str, Any] = field(default_factory=dict)

    def build(self) -> tuple[Any, Callable[[Size], Inputs]]:
        """The module in evaluation mode, and its keyword arguments at a size."""
        import torch
        import transformers

        torch.manual_seed(0)
        config = getattr(transformers, self.config)(**self.settings)
        return getattr(transformers, self.model)(config).eval(), partial(self.inputs, config)


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
GROUPED = {**SMALL, "num_key_value_heads": 2}
HEADED = {**GROUPED, "head_dim": 8}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
SEQ = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
}  # fmt: skip
TOWERS = {"text_config": SMALL, "vision_config": SMALL}
SPEECH = {**SMALL, "conv_dim": (32,) * 7, "num_conv_pos_embedding_groups": 4, "num_conv_pos_embeddings": 16}
STAGES = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}


def _tasks(name: str, config: str, settings: dict[str, Any]) -> dict[str, Architecture]:
    heads = {
        "": "Model",
        " classifying": "ForSequenceClassification",
        " tagging": "ForTokenClassification",
        " answering": "ForQuestionAnswering",
        " masked words": "ForMaskedLM",
    }
    return {
        name + head: Architecture(config.removesuffix("Config") + suffix, config, text, settings)
        for head, suffix in heads.items()
    }


ARCHITECTURES: dict[str, Architecture] = {
    **_tasks("BERT", "BertConfig", SMALL),
    **_tasks("RoBERTa", "RobertaConfig", SMALL),
    **_tasks("DistilBERT", "DistilBertConfig", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}),
    **_tasks("ALBERT", "AlbertConfig", {**SMALL, "embedding_size": 16}),
    **_tasks("ELECTRA", "ElectraConfig", {**SMALL, "embedding_size": 16}),
    **_tasks("DeBERTa-v2", "DebertaV2Config", SMALL),
    "DeBERTa-v3": Architecture(
        "DebertaV2Model",
        "DebertaV2Config",
        text,
        {
            **SMALL,
            "relative_attention": True,
            "position_buckets": 256,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
    ),  # fmt: skip
    **_tasks("ModernBERT", "ModernBertConfig", SMALL),
    **_tasks("MPNet", "MPNetConfig", SMALL),
    **_tasks("BigBird", "BigBirdConfig", SMALL),
    **_tasks("Longformer", "LongformerConfig", {**SMALL, "attention_window": 16}),
    "Longformer answering": Architecture(
        "LongformerForQuestionAnswering", "LongformerConfig", question, {**SMALL, "attention_window": 16}
    ),
    **_tasks("FNet", "FNetConfig", SMALL),
    "XLNet": Architecture(
        "XLNetModel", "XLNetConfig", text, {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}
    ),
    "GPT-2": Architecture("GPT2LMHeadModel", "GPT2Config", text, GPT),
    "GPT-NeoX": Architecture("GPTNeoXForCausalLM", "GPTNeoXConfig", text, SMALL),
    "GPT-J": Architecture("GPTJForCausalLM", "GPTJConfig", text, {**GPT, "rotary_dim": 4}),
    "OPT": Architecture(
        "OPTForCausalLM",
        "OPTConfig",
        text,
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 48,
            "word_embed_proj_dim": 32,
        },
    ),  # fmt: skip
    "BLOOM": Architecture(
        "BloomForCausalLM", "BloomConfig", text, {"hidden_size": 32, "n_layer": 2, "n_head": 4}
    ),
    "Falcon": Architecture("FalconForCausalLM", "FalconConfig", text, SMALL),
    "Llama": Architecture("LlamaForCausalLM", "LlamaConfig", text, GROUPED),
    "Mistral": Architecture("MistralForCausalLM", "MistralConfig", text, GROUPED),
    "Mixtral": Architecture("MixtralForCausalLM", "MixtralConfig", text, {**GROUPED, "num_local_experts": 4}),
    "Qwen2": Architecture("Qwen2ForCausalLM", "Qwen2Config", text, GROUPED),
    "Qwen3": Architecture("Qwen3ForCausalLM", "Qwen3Config", text, HEADED),
    "Gemma 2": Architecture("Gemma2ForCausalLM", "Gemma2Config", text, HEADED),
    "Gemma 3": Architecture("Gemma3ForCausalLM", "Gemma3TextConfig", text, HEADED),
    "Phi-3": Architecture("Phi3ForCausalLM", "Phi3Config", text, {**GROUPED, "pad_token_id": 0}),
    "StableLM": Architecture("StableLmForCausalLM", "StableLmConfig", text, GROUPED),
    "Mamba": Architecture(
        "MambaForCausalLM", "MambaConfig", plain, {"hidden_size": 32, "num_hidden_layers": 2}
    ),
    "RWKV": Architecture(
        "RwkvForCausalLM",
        "RwkvConfig",
        plain,
        {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "intermediate_size": 48},
    ),  # fmt: skip
    "T5": Architecture("T5ForConditionalGeneration", "T5Config", pair, T5),
    "T5 encoder": Architecture("T5EncoderModel", "T5Config", text, T5),
    "BART": Architecture("BartForConditionalGeneration", "BartConfig", pair, SEQ),
    "MarianMT": Architecture("MarianMTModel", "MarianConfig", pair, SEQ),
    "Whisper": Architecture("WhisperForConditionalGeneration", "WhisperConfig", features, SEQ),
    "ViT": Architecture("ViTForImageClassification", "ViTConfig", image, SMALL),
    "DeiT": Architecture("DeiTForImageClassification", "DeiTConfig", image, SMALL),
    "BEiT": Architecture("BeitForImageClassification", "BeitConfig", image, SMALL),
    "DINOv2": Architecture("Dinov2Model", "Dinov2Config", image, {**SMALL, "image_size": 224}),
    "Swin v2": Architecture("Swinv2ForImageClassification", "Swinv2Config", image, STAGES),
    "SegFormer": Architecture(
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        image,
        {"hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 32},
    ),  # fmt: skip
    "DETR": Architecture(
        "DetrForObjectDetection",
        "DetrConfig",
        image,
        {
            **SEQ,
            "use_timm_backbone": False,
            "backbone": None,
            "num_queries": 20,
            "use_pretrained_backbone": False,
        },
    ),  # fmt: skip
    "SAM's encoder": Architecture(
        "SamVisionModel",
        "SamVisionConfig",
        image,
        {**SMALL, "global_attn_indexes": [1], "output_channels": 16, "mlp_dim": 48},
    ),
    "Mask2Former": Architecture(
        "Mask2FormerForUniversalSegmentation",
        "Mask2FormerConfig",
        image,
        {
            "feature_size": 32,
            "mask_feature_size": 32,
            "hidden_dim": 32,
            "encoder_feedforward_dim": 24,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "num_attention_heads": 2,
            "dim_feedforward": 24,
            "num_queries": 5,
        },
    ),
    "CLIP": Architecture("CLIPModel", "CLIPConfig", image_and_text, TOWERS),
    "SigLIP": Architecture("SiglipModel", "SiglipConfig", image_and_text, TOWERS),
    "BLIP's image tower": Architecture("BlipVisionModel", "BlipVisionConfig", image, SMALL),
    "BLIP's text tower": Architecture(
        "BlipTextModel", "BlipTextConfig", text, {**SMALL, "encoder_hidden_size": 32}
    ),
    "Wav2Vec2": Architecture("Wav2Vec2ForCTC", "Wav2Vec2Config", sound, SPEECH),
    "HuBERT": Architecture("HubertModel", "HubertConfig", sound, SPEECH),
    "WavLM": Architecture("WavLMModel", "WavLMConfig", sound, SPEECH),
    "SpeechT5": Architecture(
        "SpeechT5ForSpeechToText",
        "SpeechT5Config",
        heard,
        {**SEQ, **SPEECH, "speech_decoder_prenet_units": 16},
    ),
    "AST": Architecture("ASTForAudioClassification", "ASTConfig", spectrogram, SMALL),
    "PatchTST": Architecture(
        "PatchTSTForPrediction",
        "PatchTSTConfig",
        series,
        {
            "d_model": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 48,
            "context_length": 64,
        },
    ),  # fmt: skip
    "TimesFM": Architecture(
        "TimesFmModel",
        "TimesFmConfig",
        patches,
        {**SMALL, "head_dim": 8, "context_length": 128, "horizon_length": 32},
    ),
    "Informer": Architecture(
        "InformerModel",
        "InformerConfig",
        covariates,
        {
            "d_model": 16,
            "encoder_layers": 2,
            "decoder_layers": 1,
            "prediction_length": 8,
            "context_length": 24,
            "num_time_features": 1,
        },
    ),  # fmt: skip
}
