"""Sequences out of a decoder: `Generator` runs it again and again, each time on the token that it chose before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from bridge.errors import SourceError
from bridge.keras_compat import Config
from bridge.layers.prompts import noise_of, rows_of
from bridge.package import PACKAGE

Tensor = keras.KerasTensor
Tensors = Sequence[Tensor]


class Cache(NamedTuple):
    """What a decoder keeps from one token for the next: an input and the output that takes its place."""

    input: str
    output: str
    axis: int | None  # along which it grows by what is new; None where it stays as long


@keras.saving.register_keras_serializable(package=PACKAGE)
class Generator(keras.Model):
    """Continues sequences of tokens with a causal decoder, all in one loop: a `tf.while_loop`, `jax.lax.while_loop`, or
    torch's eager one.

    A decoder without caches runs on the whole sequence each time. One with caches runs on a token at a time, behind
    prompts that it reads at once where it can. Caches that grow lie in buffers of `max_length - 1` places, filled from
    their ends, of which the decoder's mask hides what is not filled yet.

    Args:
        decoder: the functional model that gives the logits.
        tokens, mask, positions: what its inputs are called, "" where it has none; its output: `logits`.
        caches: what goes from one token to the next.
        max_length: of a sequence, prompt and all.
        end: tokens that end a sequence.
        temperature: by which logits are divided before a token is drawn; 0 takes the largest.
        top_k: how many of the likeliest tokens are drawn from; 0 for all.
        top_p: the probability that the likeliest tokens drawn from have together.
    """

    def __init__(
        self,
        decoder: keras.Model,
        *,
        tokens: str,
        logits: str,
        max_length: int,
        mask: str = "",
        positions: str = "",
        caches: Sequence[Cache] = (),
        end: Sequence[int] = (),
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.decoder = decoder
        self.names = {"tokens": tokens, "logits": logits, "mask": mask, "positions": positions}
        self.caches = [Cache(*cache) for cache in caches]
        self.settings: dict[str, Any] = {
            "max_length": max_length, "end": list(end), "temperature": temperature, "top_k": top_k, "top_p": top_p,
        }  # fmt: skip
        self.built = True  # as the decoder is

    def get_config(self) -> Config:
        decoder = keras.saving.serialize_keras_object(self.decoder)
        caches = [list(cache) for cache in self.caches]
        return {"name": self.name, "decoder": decoder, "caches": caches, **self.names, **self.settings}

    @classmethod
    def from_config(cls, config: Config, custom_objects: object = None) -> Generator:
        return cls(**config | {"decoder": keras.saving.deserialize_keras_object(config["decoder"])})

    # --- what people call ------------------------------------------------------------------------------------------

    def generate(
        self,
        prompts: Sequence[Sequence[int]] | np.ndarray,
        mask: np.ndarray | None = None,
        *,
        max_new_tokens: int | None = None,
        seed: int = 0,
        noise: np.ndarray | None = None,
        **others: object,
    ) -> list[np.ndarray]:
        """Each prompt with what follows it, up to and with the first token that ends it.

        Args:
            prompts: sequences of tokens, of any lengths; or an array (batch, time).
            mask: (batch, time), for an array: 1 where there is a token, and 0 where there is padding, on either side.
            max_new_tokens: how many tokens a prompt gets at most; as many as `max_length` leaves where left out.
            seed: where tokens are drawn, of the exponential numbers (steps, batch, vocabulary) that numpy draws.
            noise: these numbers themselves. A token is the largest of probability / number, as `torch.multinomial`
                has it: with `torch.empty(batch, vocabulary).exponential_()` for each step it draws what torch draws.
            others: the decoder's other inputs, (batch, …).

        Returns:
            For each prompt its tokens and the new ones, int32.

        Raises:
            SourceError: a prompt is empty or too long, a token or an input is none that the decoder knows.
        """
        rows = rows_of(prompts, mask)
        longest, most = max(map(len, rows)), self.settings["max_length"]
        if longest > most:
            raise SourceError(f"a prompt has {longest} tokens, and the generator's max_length is {most}")
        count, vocabulary = most if max_new_tokens is None else max_new_tokens, self.vocabulary
        for place, row in enumerate(rows):
            if row.min() < 0 or row.max() >= vocabulary:
                wrong = row[(row < 0) | (row >= vocabulary)][0]
                raise SourceError(
                    f"prompt {place} has the token {wrong}: the decoder knows 0 to {vocabulary - 1}"
                )
        lengths = np.array([len(row) for row in rows], np.int32)
        limits = np.minimum(lengths + count, most).astype(np.int32)
        padded = np.stack([np.pad(row, (0, most - len(row))) for row in rows])
        given: dict[str, Any] = {"tokens": padded, "lengths": lengths, "limits": limits}
        if self.reads_at_once:
            width = min(1 << max(longest - 1, 1).bit_length(), most)  # few of them, as each is compiled
            given["prompts"] = np.stack([np.pad(row, (width - len(row), 0)) for row in rows])
        given["others"] = self._checked(others)
        if self.settings["temperature"]:
            steps = max(int((limits - lengths).max()), 1)
            given["noise"] = noise_of((steps, len(rows), vocabulary), seed, noise)
        made, ends = self.predict_on_batch(given)
        return [row[:end] for row, end in zip(np.asarray(made), np.asarray(ends), strict=True)]

    def of_length(self, length: int) -> Generator:
        """The same for sequences of another length."""
        settings: dict[str, Any] = {**self.names, **self.settings, "max_length": length}
        return Generator(self.decoder, caches=self.caches, **settings)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return int(dict(named(self.decoder.output))[self.names["logits"]].shape[-1])

    @property
    def others(self) -> list[Tensor]:
        """The decoder's inputs that stay the same from token to token."""
        known = {*self.names.values(), *(cache.input for cache in self.caches)}
        return [value for value in self.decoder.inputs if value.name not in known]

    def _checked(self, others: Mapping[str, object]) -> dict[str, np.ndarray]:
        names = [value.name for value in self.others]
        if set(names) != set(others):
            raise SourceError(
                f"beside its tokens the decoder takes {', '.join(names) or 'nothing'}; "
                f"given: {', '.join(others) or 'nothing'}"
            )
        return {name: np.asarray(others[name]) for name in names}

    # --- the loop --------------------------------------------------------------------------------------------------

    def call(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """`tokens` (batch, max_length) with the prompts at their beginnings, `lengths` and `limits` (batch,), `prompts`
        (batch, time) with the prompts at their ends where they are read at once, `noise` (batch, steps, vocabulary)
        where tokens are drawn, `others` -> the tokens, and how many each row has."""
        tokens, lengths, limits = (
            ops.cast(inputs[name], "int32") for name in ("tokens", "lengths", "limits")
        )
        places, others = ops.arange(self.settings["max_length"], dtype="int32"), inputs["others"]

        def written(logits: Tensor, here: Tensor, tokens: Tensor, ends: Tensor, live: Tensor) -> Tensors:
            chosen = self._chosen(logits, inputs.get("noise"), here + 1 - lengths)
            writes = ops.logical_and(live, here + 1 >= lengths)
            behind = ops.logical_and(writes[:, None], places == here[:, None] + 1)
            tokens = ops.where(behind, chosen[:, None], tokens)
            ends = ops.where(writes, here + 2, ends)
            over = ops.logical_or(self._ended(chosen), ends >= limits)
            live = ops.logical_and(live, ops.logical_not(ops.logical_and(writes, over)))
            return here + 1, tokens, ends, live

        def step(here: Tensor, tokens: Tensor, ends: Tensor, live: Tensor, *caches: Tensor) -> Tensors:
            logits, given = self.scores(tokens, here, caches, others)
            return (*written(logits, here, tokens, ends, live), *self.kept(caches, given))

        first = ops.zeros_like(lengths) if self.caches and "prompts" not in inputs else lengths - 1
        state: Tensors = (first, tokens, lengths, lengths < limits)
        caches = self.empty_caches(ops.shape(tokens)[0])
        if "prompts" in inputs:
            logits, given = self.begun(ops.cast(inputs["prompts"], "int32"), lengths, others)
            state, caches = written(logits, *state), self.filled(caches, given)
        _, tokens, ends, *_ = ops.while_loop(
            lambda _, __, ___, live, *____: ops.any(live), step, (*state, *caches)
        )
        return tokens, ends

    @property
    def reads_at_once(self) -> bool:
        """Whether the decoder reads a whole prompt into empty caches: it takes any number of tokens, all that it keeps
        of them is behind its mask, and positions are each row's own."""
        free, positions = self.asked("tokens").shape[1] is None, self.names["positions"]
        own = not positions or len(self.asked("positions").shape) == 2
        hidden = bool(self.names["mask"]) and all(cache.axis is not None for cache in self.caches)
        return bool(self.caches) and free and own and hidden

    def empty_caches(self, batch: int | Tensor, size: int | None = None) -> list[Tensor]:
        """Zeros: buffers, or what is `size` long where it grows."""
        inputs = {x.name: x for x in self.decoder.inputs}
        most = self.settings["max_length"] - 1 if size is None else size

        def empty(cache: Cache) -> Tensor:
            x = inputs[cache.input]
            shape = [most if axis == cache.axis else size or batch for axis, size in enumerate(x.shape)]
            return ops.zeros(shape, dtype=x.dtype)

        return [empty(cache) for cache in self.caches]

    def begun(
        self, prompts: Tensor, lengths: Tensor, others: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """`scores` of what follows prompts that stand at the ends of their rows."""
        empty = self.empty_caches(ops.shape(prompts)[0], size=0)
        found = self.run({**self.feeds(prompts, lengths, 0), **others}, empty)
        return found[self.names["logits"]][:, -1], [found[cache.output] for cache in self.caches]

    def scores(
        self, tokens: Tensor, here: Tensor, caches: Tensors, others: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """The logits (batch, vocabulary) of what follows the token of each row that is `here` (batch,), and the caches
        as the decoder gives them."""
        if self.caches:
            grows = any(cache.axis is not None for cache in self.caches)
            size = self.settings["max_length"] - 1 if grows else 0
            feeds = self.feeds(_at(tokens, here)[:, None], here + 1, size)
            found = self.run({**feeds, **others}, caches)
            return found[self.names["logits"]][:, -1], [found[cache.output] for cache in self.caches]
        most = self.settings["max_length"]
        length = self.asked("tokens").shape[1] or most
        read = ops.pad(tokens, ((0, 0), (0, length - most)))
        found = self.run({**self.feeds(read, ops.full_like(here, length), 0), **others}, ())
        return _at(found[self.names["logits"]], here), []

    def kept(self, caches: Tensors, given: Tensors) -> list[Tensor]:
        """The caches behind a token, of those before it and what the decoder gave: of buffers, which are filled from
        their ends, the last places."""
        rows = zip(self.caches, caches, given, strict=True)
        return [
            _like(old, new if cache.axis is None else _last(new, old, cache.axis)) for cache, old, new in rows
        ]

    def filled(self, caches: Tensors, given: Tensors) -> list[Tensor]:
        """Buffers with what the decoder gave of prompts at their ends."""
        rows = zip(self.caches, caches, given, strict=True)
        longer = [
            ops.concatenate([old, ops.cast(new, old.dtype)], axis=cache.axis) for cache, old, new in rows
        ]
        return self.kept(caches, longer)

    def feeds(self, read: Tensor, counts: Tensor, size: int) -> dict[str, Tensor]:
        """What the decoder is given with the tokens that it reads, behind caches of that size: `counts` of each row
        what there is with them, all of it at the end."""
        new = ops.shape(read)[1]
        before = ops.expand_dims(size + new - counts, 1)  # places at the beginning in which there is nothing
        seen = ops.arange(size + new, dtype="int32") >= before
        places = ops.arange(new, dtype="int32") + size - before
        places = ops.clip(places, 0, self.settings["max_length"] - 1)
        if self.names["positions"] and len(self.asked("positions").shape) == 1:
            places = places[0]
        feeds = {"tokens": read, "mask": seen, "positions": places}
        return {self.names[role]: x for role, x in feeds.items()}

    def run(self, feeds: Mapping[str, Tensor], caches: Tensors) -> dict[str, Tensor]:
        """What the decoder gives, by name, of inputs by name."""
        given = {**feeds, **{cache.input: x for cache, x in zip(self.caches, caches, strict=True)}}
        inputs = [ops.cast(given[x.name], x.dtype) for x in self.decoder.inputs]
        return dict(named(self.decoder(inputs if len(inputs) > 1 else inputs[0], training=False)))

    def asked(self, role: str) -> Tensor:
        """The decoder's input in that role."""
        return next(value for value in self.decoder.inputs if value.name == self.names[role])

    def _chosen(self, logits: Tensor, noise: Tensor | None, step: Tensor) -> Tensor:
        """(batch,) tokens: the likeliest, or drawn by the noise of each row's `step`."""
        if noise is None:
            return ops.cast(ops.argmax(logits, axis=-1), "int32")
        exponential = _at(noise, step)
        scores = ops.cast(logits, "float32") / self.settings["temperature"]
        return ops.cast(ops.argmax(ops.softmax(self._likely(scores)) / exponential, axis=-1), "int32")

    def _likely(self, scores: Tensor) -> Tensor:
        """The scores, minus infinity where `top_k` and `top_p` leave a token out."""
        top_k, top_p = min(self.settings["top_k"], self.vocabulary), self.settings["top_p"]
        if top_k:
            scores = ops.where(scores < ops.top_k(scores, top_k)[0][:, -1:], -np.inf, scores)
        if top_p < 1:
            ordered = ops.sort(scores, axis=-1)
            left_out = ops.cumsum(ops.softmax(ordered), axis=-1) <= 1 - top_p
            least = ops.min(ops.where(left_out, ordered[:, -1:], ordered), axis=-1, keepdims=True)
            scores = ops.where(scores < least, -np.inf, scores)
        return scores

    def _ended(self, chosen: Tensor) -> Tensor:
        ends = ops.convert_to_tensor(self.settings["end"] or [-1], dtype="int32")
        return ops.any(chosen[:, None] == ends, axis=-1)


def named(tree: Any, *keys: str | int) -> Iterator[tuple[str, Any]]:
    """Every leaf of what a model gives by its keys and places, "cache_layers_0_keys"; without any, "output"."""
    if isinstance(tree, Mapping):
        parts: list[tuple[str | int, Any]] = list(tree.items())
    elif isinstance(tree, list | tuple):
        parts = list(enumerate(tree))
    else:
        yield "_".join(map(str, keys)) or "output", tree
        return
    for key, part in parts:
        yield from named(part, *keys, key)


def _at(rows: Tensor, places: Tensor) -> Tensor:
    """(batch, …) of (batch, places, …): what each row has at its place."""
    batch, count, *rest = ops.shape(rows)
    flat = ops.arange(batch, dtype="int32") * count + ops.clip(places, 0, count - 1)
    return ops.take(ops.reshape(rows, (-1, *rest)), flat, axis=0)


def _last(given: Tensor, old: Tensor, axis: int) -> Tensor:
    """As many of the last places along an axis as `old` has."""
    return given[(slice(None),) * axis + (slice(-old.shape[axis], None),)]


def _like(old: Tensor, new: Tensor) -> Tensor:
    return ops.reshape(ops.cast(new, old.dtype), ops.shape(old))
