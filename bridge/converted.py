"""What a conversion gives: the model, its weights, the report, and what can be made of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge import saving
from bridge.report.report import Report
from bridge.weights.blueprint import Blueprint
from bridge.weights.weight_map import WeightMap

if TYPE_CHECKING:
    import keras

    from bridge.layers.generation import Generator


@dataclass(frozen=True)
class Conversion:
    """A finished conversion: the Keras model, the way its weights came, and the proof.

    Attributes:
        model: the `keras.Model`. Its inputs and outputs have torch's order of axes, unless it was converted with
            `channels_last=True`.
        weights: the `WeightMap`: which torch parameters every Keras variable is made of, forwards and backwards.
        report: the `Report`: what became what, and what comparing the two found.
        blueprint: the graph that the model was built of, for `export`; None of a model that is another one since.

    Examples:
        >>> result = bridge.convert(module, args)
        >>> result.save("model.keras")
        >>> module.load_state_dict(result.weights.to_torch())
    """

    model: keras.Model
    weights: WeightMap
    report: Report
    blueprint: Blueprint | None = field(default=None, repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model as one `.keras` file, which plain Keras loads, and the weight map beside it, from which
        `bridge.load` finds the way back to torch. Nothing is left half-written.

        Args:
            path: of the model, ending in `.keras`; the map gets `.bridge.npz` instead.

        Returns:
            The path of the model.

        Raises:
            OutputError: a file cannot be written there.

        Examples:
            >>> bridge.convert(module, args).save("model.keras")
        """
        saving.save(Path(path), self.model, self.weights, self.report, self.blueprint)
        return Path(path)

    def for_inference(self) -> Conversion:
        """The same model as it is served: normalisations folded into the layers before them, and nothing that does
        something in training only. What stays is shared with this model, and holds each weight once.

        Returns:
            A conversion whose model gives the same outputs, which its report's comparison shows at the sizes of this
            one's. The parameters that were folded do not go back to torch (`weights.one_way`).

        Raises:
            MismatchError: the two differ; carries the report.

        Examples:
            >>> result.for_inference().save("served.keras")
        """
        from bridge.serving.inference import for_inference

        return Conversion(*for_inference(self.model, self.weights, self.report))

    def export(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,
        *,
        precision: str | None = None,
        calibration: Iterable[Any] | None = None,
    ) -> Report:
        """Write the model for another runtime, which loads it from disk and is compared with this model as it is now;
        docs/export.md.

        Args:
            path: of the file, or of the folder of a SavedModel, which is not there yet.
            format: "onnx", "openvino" (`.xml` with its `.bin`), "litert" (`.tflite`, built-in operators only) or
                "saved_model" (for TensorFlow Serving, in the fastest of its forms); without it the ending of `path`
                says it, and a path without one is a SavedModel.
            precision: of the weights, if not their own: "float16" for OpenVINO and LiteRT, "int8" for LiteRT, which
                then computes with integers.
            calibration: for "int8", inputs as the model will be given: for each an array, a list of arrays or a dict of
                them by the names of the inputs. The comparison is at them.

        Returns:
            The report with that comparison. Inputs and outputs have the names that they have there.

        Raises:
            SourceError: what is asked for does not go together, or needs Keras on TensorFlow.
            UnsupportedError: what the format cannot say: the layer, the torch module, and a format that can.
            WeightsError: variables of the model are others than it was built with.
            MissingPackageError: the runtime is not installed.
            OutputError: something is there already, or it cannot be written.
            MismatchError: it gives something else; nothing is written then.

        Examples:
            >>> result.export("net.onnx")
            >>> result.for_inference().export("models/net/1")
        """
        from bridge.serving.formats import export
        from bridge.serving.written import Made

        made = Made(self.model, self.weights, self.report, self.blueprint, precision, calibration)
        return export(made, Path(path), format)

    def to_source(self) -> str:
        """The model as source: what one would write for it in Keras, a function for every torch module; docs/source.md.

        Returns:
            The text of a Python file. It was run, and makes this model: the same calls of the same layers.

        Raises:
            UnsupportedError: a layer cannot be written, such as one that somebody else registered.

        Examples:
            >>> print(result.to_source())
        """
        from bridge.source.writing import to_source

        return to_source(self.model, self.weights, self.report)

    def save_source(self, path: str | os.PathLike[str]) -> Path:
        """Write the source and, beside it, the weights that it loads: `net.py` and `net.weights.h5`.

        Args:
            path: of the source, ending in `.py`.

        Returns:
            The path of the source.

        Raises:
            UnsupportedError: as `to_source`.
            OutputError: a file cannot be written there.

        Examples:
            >>> result.save_source("net.py")
        """
        from bridge.source.writing import save_source

        save_source(Path(path), self.model, self.weights, self.report)
        return Path(path)

    def generator(self, *, max_length: int, end: int | Sequence[int] = (), **settings: Any) -> Generator:
        """The loop that continues sequences of tokens with this model, a causal decoder; docs/generation.md.

        Args:
            max_length: of a sequence, prompt and all.
            end: the token, or tokens, that end one.
            settings: `temperature`, by which logits are divided before a token is drawn (0, the default, takes the
                likeliest); `top_k` and `top_p`, to draw from so many of the likeliest tokens, or from those that have
                this probability together; `others`, an example of the decoder's other inputs, where it does not run
                on any numbers.

        Returns:
            A `keras.Model` with `generate(prompts)`, which holds the decoder and is saved with it.

        Raises:
            SourceError: the model is no causal decoder, or does not run at `max_length`.

        Examples:
            >>> result.generator(max_length=64, end=2).generate([[1, 5, 9]])
        """
        from bridge.generation import generator

        return generator(self.model, max_length=max_length, end=end, **settings)
