"""A causal decoder as a generator of sequences: which of its inputs and outputs mean what, and whether it is one.

The decoder itself is asked: that what comes later changes nothing before it, or that a cache longer than what is filled
changes nothing where its mask hides the rest; and that it runs at the largest length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from bridge.errors import NotRun, SourceError, calling
from bridge.keras_compat import being_compared, to_numpy
from bridge.layers.generation import Cache, Generator, named

# What people call them, of a decoder with an encoder with "decoder_" before it
TOKENS = ("input_ids", "tokens", "ids", "target", "tgt")
MASKS = ("attention_mask", "mask")
POSITIONS = ("position_ids", "positions", "cache_position")
LOGITS = ("logits", "lm_logits", "scores")
PREFIX = "decoder_"
TOLERANCE = 1e-4  # of the largest magnitude: sums over a longer buffer are rounded otherwise
FREE = 16  # what free axes are of inputs that stay the same, where no example of them is given
FILLED = 2  # places of a cache in which there is something, where buffers are tried
PADDED = 1  # places before a prompt in which there is nothing, where reading it at once is tried

Arrays = list[np.ndarray]
Inputs = Mapping[str, keras.KerasTensor]


def generator(
    model: keras.Model,
    *,
    max_length: int,
    end: int | Sequence[int] = (),
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    others: Mapping[str, Any] | None = None,
) -> Generator:
    """The generator of a decoder; as `Conversion.generator`."""
    _require_settings(max_length, temperature, top_k, top_p)
    inputs, outputs = {x.name: x for x in model.inputs}, dict(named(model.output))
    tokens, logits = _tokens(inputs), _logits(outputs)
    caches = _caches(inputs, {name: y for name, y in outputs.items() if name != logits}, inputs[tokens])
    length, least = inputs[tokens].shape[1], 1 if caches else max_length
    if length is not None and (length < least or caches and length > 1):
        raise SourceError(
            f"{tokens} is {length} long and fixed: with caches convert an example of one token; without, let the "
            f"axis be free (dynamic_shapes), or max_length no larger"
        )
    prefix = PREFIX if tokens.startswith(PREFIX) else ""
    roles = {"mask": MASKS, "positions": POSITIONS}
    made = Generator(
        model,
        tokens=tokens,
        logits=logits,
        caches=caches,
        max_length=max_length,
        end=[end] if isinstance(end, int) else end,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        name=f"{model.name}_generator",
        **{
            role: next((prefix + n for n in names if prefix + n in inputs), "")
            for role, names in roles.items()
        },
    )
    _Probe(made, others).require_causal()
    return made


def _require_settings(max_length: int, temperature: float, top_k: int, top_p: float) -> None:
    for wrong, text in (
        (max_length < 2, f"max_length is {max_length}: a token and one behind it are 2"),
        (temperature < 0, f"temperature is {temperature}: 0 takes the likeliest token, larger numbers draw"),
        (top_k < 0, f"top_k is {top_k}: give a number of tokens, or 0 for all"),
        (not 0 < top_p <= 1, f"top_p is {top_p}: give a probability above 0"),
    ):
        if wrong:
            raise SourceError(text)


def _tokens(inputs: Inputs) -> str:
    """What the input is called that takes the sequence so far."""
    whole = [name for name, x in inputs.items() if "int" in x.dtype and len(x.shape) == 2]
    known = [name for prefix in (PREFIX, "") for word in TOKENS if (name := prefix + word) in whole]
    if not known and len(whole) != 1:
        raise SourceError(
            f"which input is the sequence of tokens? Call one of integers (batch, time) {' or '.join(TOKENS)}; "
            f"there are {', '.join(inputs)}"
        )
    return (known or whole)[0]


def _logits(outputs: Inputs) -> str:
    """What the output is called that has a number for each token at each place."""
    whole = [name for name, y in outputs.items() if len(y.shape) == 3 and "float" in y.dtype]
    found = [name for name in LOGITS if name in whole] or whole
    if not found:
        raise SourceError(f"no output is logits (batch, time, vocabulary): there are {', '.join(outputs)}")
    return found[0]


def _caches(inputs: Inputs, outputs: Inputs, tokens: keras.KerasTensor) -> list[Cache]:
    """What goes in and comes out again as something else: found by names, or else in their order."""
    ins, outs = ({id(x) for x in part.values()} for part in (inputs, outputs))
    floats = [name for name, x in inputs.items() if "float" in x.dtype and id(x) not in outs]
    outputs = {name: y for name, y in outputs.items() if id(y) not in ins}  # as cross-attention's come out
    alike = {_plain(name): name for name in outputs}
    pairs = [(name, alike[_plain(name)]) for name in floats if _plain(name) in alike]
    if not pairs and len(floats) == len(outputs):
        pairs = list(zip(floats, outputs, strict=True))
    free_batch = tokens.shape[0] is None
    return [
        Cache(name, output, _growing(inputs[name], free_batch))
        for name, output in pairs
        if len(inputs[name].shape) == len(outputs[output].shape)
    ]


def _plain(name: str) -> str:
    """The same of what goes in and what comes out, as files have them: past_key_values.0.key and present.0.key."""
    for word in ("past_key_values", "present", "past"):
        name = name.removeprefix(word)
    return name.replace(".", "_")


def _growing(cache: keras.KerasTensor, free_batch: bool) -> int | None:
    """The axis along which it may be of any length: the batch, where that is free, comes before it."""
    free = [axis for axis, size in enumerate(cache.shape) if size is None][int(free_batch) :]
    return free[0] if free else None


class _Probe:
    """The decoder of a generator, run on numbers that mean nothing; what it raises is a `SourceError`."""

    def __init__(self, made: Generator, others: Mapping[str, Any] | None):
        self.made, self.draw = made, np.random.default_rng(0)
        self.longest: int = made.settings["max_length"]
        self.batch = made.asked("tokens").shape[0] or 2
        given = {x.name: self._drawn(x, None, FREE) for x in made.others} if others is None else others
        self.others = {name: ops.convert_to_tensor(x) for name, x in given.items()}
        if others:
            self.batch = len(next(iter(given.values())))

    def require_causal(self) -> None:
        """Tokens can be told one after the other, and as many as the generator is asked for."""
        tokens, caches = self._tokens(self.longest), self._empty(self.longest - 1)
        asked = [self._run(self.longest, tokens, self.longest - 2, caches)]
        if self.made.reads_at_once:
            asked.append(self._run(self.longest, tokens, self.longest - 1))
        if not all(np.isfinite(logits).all() for logits, _ in asked):  # as JAX reads a table behind its end
            raise SourceError(
                f"at max_length {self.longest} the decoder gives no numbers: ask for a smaller one"
            )
        (self._require_buffers if self.made.caches else self._require_order)()

    def _require_order(self) -> None:
        place = self.longest // 2 - 1
        tokens, other = self._tokens(self.longest), self._tokens(self.longest)
        other[:, : place + 1] = tokens[:, : place + 1]
        if not _equal(*(self._run(self.longest, given, place, [])[0] for given in (tokens, other))):
            raise SourceError(
                f"{self.made.names['logits']} at a place hangs on the tokens behind it: the model is no causal decoder"
            )

    def _require_buffers(self) -> None:
        """Buffers give what caches give that are as long as what is filled, at two tokens one after the other; and
        where prompts are read at once, what they leave in buffers is what tokens leave there one after the other."""
        longest = max(self.longest, FILLED + 2)
        tokens = self._tokens(longest)
        if self.made.reads_at_once:
            compact = self._empty(0)
            for time in range(FILLED):
                _, compact = self._run(time + 1, tokens, time, compact, raw=True)
            _, buffers = self._run(longest, tokens, FILLED - 1)
        else:
            compact, buffers = self._empty(FILLED), self._empty(longest - 1)
            pairs = zip(self.made.caches, compact, buffers, strict=True)
            buffers = [x if cache.axis is None else _placed(x, into, cache.axis) for cache, x, into in pairs]
        for time in (FILLED, FILLED + 1):
            want, compact = self._run(time + 1, tokens, time, compact, raw=True)
            got, buffers = self._run(longest, tokens, time, buffers)
            if not _equal(want, got):
                raise SourceError(
                    "the caches have to be as long as what is filled: the decoder has no input that hides the rest "
                    "(attention_mask) and says where a token stands (position_ids), or does not heed it; convert "
                    "it with both, or without its caches"
                )

    def _tokens(self, length: int) -> np.ndarray:
        return self.draw.integers(0, self.made.vocabulary, (self.batch, length)).astype(np.int32)

    def _empty(self, length: int) -> Arrays:
        """Caches of any content, those that grow of that length."""
        inputs = {x.name: x for x in self.made.decoder.inputs}
        return [self._drawn(inputs[cache.input], cache.axis, length) for cache in self.made.caches]

    def _drawn(self, x: keras.KerasTensor, axis: int | None, free: int) -> np.ndarray:
        """Numbers for an input: its first free axis is the batch, where that is free, and others are `free`."""
        sizes = list(x.shape)
        if self.made.asked("tokens").shape[0] is None and None in sizes:
            sizes[sizes.index(None)] = self.batch
        shape = [free if size is None else size for size in sizes]
        if "float" in x.dtype:
            return self.draw.standard_normal(shape).astype(x.dtype)
        return self.draw.integers(0, 2, shape).astype(x.dtype)

    def _run(
        self, length: int, tokens: np.ndarray, time: int, caches: Arrays | None = None, raw: bool = False
    ) -> tuple[np.ndarray, Arrays]:
        """The logits behind `time`, and the caches, of a generator of that length, which reads the tokens up to there
        at once where it is given no caches; `raw` are those as the decoder gives them."""
        made, counts = self.made.of_length(length), np.full(self.batch, time + 1, np.int32)
        here = ops.convert_to_tensor(counts - 1)
        try:
            with calling(), being_compared():
                if caches is None:
                    prompts = np.pad(tokens[:, : time + 1], ((0, 0), (PADDED if time + 1 < length else 0, 0)))
                    logits, given = made.begun(
                        ops.convert_to_tensor(prompts), ops.convert_to_tensor(counts), self.others
                    )
                    after = made.filled(made.empty_caches(self.batch), given)
                else:
                    held = [ops.convert_to_tensor(x) for x in caches]
                    read = ops.convert_to_tensor(tokens[:, :length])
                    logits, given = made.scores(read, here, held, self.others)
                    after = given if raw else made.kept(held, given)
        except NotRun as error:
            raise SourceError(
                f"the decoder does not run at {length} tokens: {error}; ask for another max_length, or give an "
                f"example of its other inputs (others)"
            ) from error
        return to_numpy(logits), [to_numpy(x) for x in after]


def _placed(x: np.ndarray, into: np.ndarray, axis: int) -> np.ndarray:
    """`into` with `x` at the end of its axis."""
    rest = np.take(into, range(into.shape[axis] - x.shape[axis]), axis)
    return np.concatenate([rest, x], axis)


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    scale = float(np.abs(one).max())
    return bool(np.allclose(one, other, rtol=0, atol=TOLERANCE * scale))
