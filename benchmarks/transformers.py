"""Architectures of the public `transformers` library, called as their users call them: what converts, and how.

python -m benchmarks.transformers [name ...] [--free batch|length]      all if none are given

Tables (vocabulary, positions, relative distances) are as large as by default, hidden sizes small, weights random. Each
is converted from one padded example of a batch of one, in a process of its own, bounded in time and memory. Prints the
table of docs/transformers.md. Needs `transformers`, which is no dependency of `bridge`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.timing import one_thread

one_thread()

TIME_LIMIT = 240  # seconds for one architecture
MEMORY_LIMIT = 12 << 30  # bytes of data of one process
LENGTH = 12  # of the example, of which the last quarter is padding

Inputs = dict[str, Any]

# --- what people call them with ------------------------------------------------------------------------------------


def _ids(config: Any, length: int = LENGTH) -> Any:
    import torch

    return torch.randint(10, min(config.vocab_size, 1000), (1, length))


def _mask(length: int = LENGTH) -> Any:
    import torch

    return (torch.arange(length)[None] < length - length // 4).long()


def text(config: Any) -> Inputs:
    """What a tokenizer gives."""
    return {"input_ids": _ids(config), "attention_mask": _mask()}


def question(config: Any) -> Inputs:
    """Text with the three separators that some models look for."""
    given = text(config)
    given["input_ids"][:, [3, 4, 8]] = config.sep_token_id
    return given


def plain(config: Any) -> Inputs:
    """For models that know no mask."""
    return {"input_ids": _ids(config)}


def pair(config: Any) -> Inputs:
    """An encoder's text, and the decoder's beginning."""
    return {**text(config), "decoder_input_ids": _ids(config, 5)}


def image(config: Any) -> Inputs:
    import torch

    size, channels = getattr(config, "image_size", 64), getattr(config, "num_channels", 3)
    size = size if isinstance(size, int) else size[0]
    return {"pixel_values": torch.randn(1, channels, size, size)}


def image_and_text(config: Any) -> Inputs:
    ids = _ids(config.text_config, 8)
    return {**image(config.vision_config), "input_ids": ids, "attention_mask": _mask(8)}


def sound(config: Any) -> Inputs:
    import torch

    return {"input_values": torch.randn(1, 4000)}


def heard(config: Any) -> Inputs:
    return {**sound(config), "decoder_input_ids": _ids(config, 5)}


def spectrogram(config: Any) -> Inputs:
    import torch

    return {"input_values": torch.randn(1, config.max_length, config.num_mel_bins)}


def features(config: Any) -> Inputs:
    import torch

    frames = 2 * config.max_source_positions
    return {
        "input_features": torch.randn(1, config.num_mel_bins, frames),
        "decoder_input_ids": _ids(config, 5),
    }


def series(config: Any) -> Inputs:
    import torch

    return {"past_values": torch.randn(1, config.context_length, config.num_input_channels)}


def patches(config: Any) -> Inputs:
    import torch

    past = torch.randn(1, config.context_length)
    return {
        "past_values": past,
        "past_values_padding": torch.zeros_like(past),
        "freq": torch.tensor([[0]]),
    }


def covariates(config: Any) -> Inputs:
    import torch

    past = config.context_length + max(config.lags_sequence)
    return {
        "past_values": torch.randn(1, past),
        "past_time_features": torch.randn(1, past, config.num_time_features),
        "past_observed_mask": torch.ones(1, past),
    }


# --- the architectures ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Architecture:
    """A class of `transformers`, the parts of its configuration that are not the default, and its inputs."""

    model: str
    config: str
    inputs: Callable[[Any], Inputs]
    settings: dict[str, Any] = field(default_factory=dict)

    def build(self) -> tuple[Any, Inputs]:
        """The module in evaluation mode, and its keyword arguments."""
        import torch
        import transformers

        torch.manual_seed(0)
        config = getattr(transformers, self.config)(**self.settings)
        return getattr(transformers, self.model)(config).eval(), self.inputs(config)


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


# --- one of them, in a process of its own --------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What the table says of one architecture; `fault` is why there is no more to say."""

    fault: str = ""
    layers: tuple[str, ...] = ()
    transposes: int = 0
    trainable: bool = False
    seconds: float = 0.0
    error: float = 0.0
    trace: str = ""


def measure(name: str, free: str) -> Outcome:
    """Converts one architecture with its batch, or batch and length, free."""
    import bridge

    module, inputs = ARCHITECTURES[name].build()
    start = time.perf_counter()
    try:
        result = bridge.convert(module, kwargs=inputs, dynamic_shapes=_free_axes(inputs, free))
    except Exception as error:
        lines = str(error).splitlines() or [""]
        return Outcome(f"{type(error).__name__}: {lines[0]}", trace=traceback.format_exc())
    seconds, report = time.perf_counter() - start, result.report
    trained = {name for entry in result.weights if entry.variable.trainable for name in entry.recipe.names}
    return Outcome(
        "" if report.proved else report.verdict,
        report.custom_layers,
        report.transposes,
        trained == _learning(module, inputs),
        seconds,
        max(report.worst.values()),
    )


def _learning(module: Any, inputs: Inputs) -> set[str]:
    """The parameters of the module that get a gradient at all: some classes have more than forward reads."""
    import torch
    from torch.utils._pytree import tree_leaves

    results = [x for x in tree_leaves(dict(module(**inputs))) if isinstance(x, torch.Tensor)]
    sum(x.sum() for x in results if x.requires_grad).backward()
    return {name for name, p in module.named_parameters() if p.grad is not None}


def _free_axes(inputs: Inputs, free: str) -> Any:
    if free == "batch":
        return None
    axes = {
        "input_ids": "length",
        "attention_mask": "length",
        "decoder_input_ids": "target",
        "input_values": "time",
    }
    return {name: {0: "batch"} | ({1: axes[name]} if name in axes else {}) for name in inputs}


def _measured(name: str, free: str, answer: Any) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT, MEMORY_LIMIT))
    answer.send(measure(name, free))


def bounded(name: str, free: str) -> Outcome:
    """`measure` in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["bridge.conversion", "bridge.build.builder", "torch.onnx", "transformers"]
    )
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(name, free, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(TIME_LIMIT) else Outcome(f"more than {TIME_LIMIT} s")
    except EOFError:
        process.join()
        return Outcome(f"the process ended with {process.exitcode}")
    finally:
        process.kill()
        process.join()


COLUMNS = (
    "architecture", "class", "converted", "layers of our own", "transposes", "trainable as in torch", "seconds",
    "largest error",
)  # fmt: skip


def row(name: str, found: Outcome) -> str:
    """The line of the table, in Markdown."""
    kind = ARCHITECTURES[name].model
    if found.fault:
        return f"| {name} | {kind} | no: {found.fault} | | | | | |"
    own = ", ".join(found.layers) or "none"
    same = "yes" if found.trainable else "no"
    return f"| {name} | {kind} | yes | {own} | {found.transposes} | {same} | {found.seconds:.0f} | {found.error:.1e} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help="of ARCHITECTURES")
    parser.add_argument("--free", choices=("batch", "length"), default="batch")
    parser.add_argument("--traces", action="store_true", help="whole tracebacks of what fails, on stderr")
    options = parser.parse_args(arguments)
    print(f"| {' | '.join(COLUMNS)} |", "|--" * len(COLUMNS) + "|", sep="\n")
    for name in options.names or ARCHITECTURES:
        found = bounded(name, options.free)
        print(row(name, found), flush=True)
        if options.traces and found.trace:
            print(name, found.trace, sep="\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
