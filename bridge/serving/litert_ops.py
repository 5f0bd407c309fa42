"""What Keras computes on TensorFlow in operations that LiteRT has no operators for, computed in others.

`PATCHES` has them. Loops carry tensors here, where Keras's carry lists of them.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from bridge.keras_compat import functions_of_backend

Tensors = Sequence[Any]  # of TensorFlow
Step = Callable[
    [Tensors, Tensors], tuple[Tensors, Tensors]
]  # states, parts of one time -> states, what is given then


def _rnn(
    step_function: Callable[[Any, Tensors], tuple[Any, Tensors]], inputs: Any, initial_states: Tensors,
    go_backwards: bool = False, mask: Any = None, constants: Tensors | None = None, unroll: bool = False,
    input_length: int | None = None, time_major: bool = False, zero_output_for_mask: bool = False,
    return_all_outputs: bool = True,
) -> tuple[Any, Any, Tensors]:  # fmt: skip
    """As Keras's function of that name. Its last output is carried as one more state."""
    import tensorflow as tf

    given = [inputs] if mask is None else [inputs, mask]
    parts = given if time_major else [_swapped(part) for part in given]
    parts = [tf.reverse(part, [0]) for part in parts] if go_backwards else parts
    fixed = tuple(constants or ())
    blank = tf.zeros_like(step_function(parts[0][0], (*initial_states, *fixed))[0])

    def step(carry: Tensors, now: Tensors) -> tuple[Tensors, Tensors]:
        *states, last = carry
        y, new = step_function(now[0], (*states, *fixed))
        if mask is not None:
            y = _where(now[1], y, blank if zero_output_for_mask else last)
            new = [_where(now[1], after, before) for after, before in zip(new, states, strict=True)]
        return [*new, y], [y] if return_all_outputs else []

    (*states, last), made = _repeated(step, [*initial_states, blank], parts)
    outputs = made[0] if return_all_outputs else last[None]
    return last, outputs if time_major else _swapped(outputs), states


def _scan(
    f: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any = None, length: int | None = None,
    reverse: bool = False, unroll: int = 1,
) -> tuple[Any, Any]:  # fmt: skip
    """As Keras's function of that name, of sequences."""
    tree = keras.tree
    shown: list[Any] = []  # the structure of what one time gives

    def step(carry: Tensors, now: Tensors) -> tuple[Tensors, Tensors]:
        states, made = f(tree.pack_sequence_as(init, carry), tree.pack_sequence_as(xs, now))
        shown.append(made)
        return tree.flatten(states), tree.flatten(made)

    states, made = _repeated(step, tree.flatten(init), tree.flatten(xs), reverse)
    return tree.pack_sequence_as(init, states), tree.pack_sequence_as(shown[0], made)


def _repeated(step: Step, states: Tensors, parts: Tensors, backward: bool = False) -> tuple[Tensors, Tensors]:
    """The last states, and what `step` gives each time, one after the other. Parts have the time first."""
    import tensorflow as tf

    count = tf.shape(parts[0])[0]
    made = step(states, [part[0] for part in parts])[1]  # for its shapes
    rows = [tf.zeros(tf.concat([[count], tf.shape(y)], 0), y.dtype) for y in made]

    def run(time: Any, *carry: Any) -> tuple[Any, ...]:
        at = count - 1 - time if backward else time
        now = [tf.gather(part, at) for part in parts]
        new, given = step(carry[: len(states)], now)
        kept = [_with_row(row, y, at) for row, y in zip(carry[len(states) :], given, strict=True)]
        return (time + 1, *new, *kept)

    shapes = [
        tf.TensorShape([]),
        *(x.shape for x in states),
        *(tf.TensorShape([None, *y.shape]) for y in made),
    ]
    start = (tf.constant(0), *states, *rows)
    _, *ends = tf.while_loop(lambda time, *_: time < count, run, start, shape_invariants=tuple(shapes))
    return ends[: len(states)], ends[len(states) :]


def _with_row(rows: Any, row: Any, place: Any) -> Any:
    import tensorflow as tf
    from tensorflow.compiler.tf2xla.python import xla

    start = tf.concat([[place], tf.zeros([len(row.shape)], tf.int32)], 0)
    made = xla.dynamic_update_slice(rows, row[None], start)
    made.set_shape([None, *row.shape])
    return made


def _where(mask: Any, new: Any, old: Any) -> Any:
    import tensorflow as tf

    return tf.where(tf.reshape(mask, [-1, *[1] * (len(new.shape) - 1)]), new, old)


def _swapped(x: Any) -> Any:
    """With the first two axes in each other's place."""
    import tensorflow as tf

    return tf.transpose(x, [1, 0, *range(2, len(x.shape))])


def _attention(kept: Callable[..., Any]) -> Callable[..., Any]:
    """A causal mask as numbers compared, which no axis is put into afterwards."""

    def attention(query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, scale: Any = None,
                  is_causal: bool = False, **others: Any) -> Any:  # fmt: skip
        if is_causal:
            import tensorflow as tf

            rows = tf.reshape(tf.range(tf.shape(query)[1]), [1, 1, -1, 1])
            causal = tf.reshape(tf.range(tf.shape(key)[1]), [1, 1, 1, -1]) <= rows
            mask = causal if mask is None else tf.logical_and(mask, causal)
        return kept(query, key, value, bias=bias, mask=mask, scale=scale, **others)

    return attention


def _squeeze(kept: Callable[..., Any]) -> Callable[..., Any]:
    """One axis less as a shape."""

    def squeeze(x: Any, axis: Any = None) -> Any:
        if axis is None or not hasattr(x, "op"):
            return kept(x, axis)
        import tensorflow as tf

        rank = len(x.shape)
        gone = {one % rank for one in (axis if isinstance(axis, list | tuple) else [axis])}
        left = [one for one in range(rank) if one not in gone]
        return tf.reshape(x, tf.gather(tf.shape(x), left)) if left else tf.reshape(x, [])

    return squeeze


def _floor_divide(kept: Callable[..., Any]) -> Callable[..., Any]:
    """Of sizes, which 32 bits hold, in these."""

    def floor_divide(x1: Any, x2: Any) -> Any:
        import tensorflow as tf

        if not (_is_size(x1) and _is_size(x2)):
            return kept(x1, x2)
        return tf.cast(kept(tf.cast(x1, tf.int32), tf.cast(x2, tf.int32)), tf.int64)

    return floor_divide


def _add(kept: Callable[..., Any]) -> Callable[..., Any]:
    """Zeros that only make another number of rows of what they are added to, as a repetition of that."""

    def add(x1: Any, x2: Any) -> Any:
        import tensorflow as tf

        for x, other in ((x1, x2), (x2, x1)):
            zeros = tf.get_static_value(other) if tf.is_tensor(other) else np.asarray(other)
            if zeros is None or zeros.size < 2 or np.any(zeros) or not hasattr(x, "op"):
                continue
            if zeros.dtype == x.dtype.as_numpy_dtype:
                return tf.broadcast_to(x, tf.broadcast_dynamic_shape(tf.shape(x), tf.constant(zeros.shape)))
        return kept(x1, x2)

    return add


def _is_size(x: Any) -> bool:
    """Whether it is made of sizes and constants alone, in 64 bits."""
    import tensorflow as tf

    if not hasattr(x, "op"):
        return np.asarray(x).dtype.kind in "iu"
    if x.dtype != tf.int64:
        return False
    waiting, seen = [x.op], set()
    while waiting:
        op = waiting.pop()
        if op.type in ("Placeholder", "ReadVariableOp"):
            return False
        if op.name not in seen and op.type != "Shape":
            seen.add(op.name)
            waiting.extend(made.op for made in op.inputs)
    return True


PATCHES: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "rnn": lambda _: _rnn,  # lists of tensors
    "core.scan": lambda _: _scan,  # the same
    "nn.dot_product_attention": _attention,  # new axes of truth values, whose sizes are free
    "numpy.squeeze": _squeeze,  # which its converter loses the axes of
    "numpy.floor_divide": _floor_divide,  # 64 bits
    "numpy.add": _add,  # its converter takes zeros away, and their shape with them
}


@contextlib.contextmanager
def in_litert_operators() -> Iterator[None]:
    """Inside, what layers compute on TensorFlow's backend is made of what LiteRT has."""
    backend, places = functions_of_backend(), []
    for path, patch in PATCHES.items():
        where, _, name = path.rpartition(".")
        places.append((operator.attrgetter(where)(backend) if where else backend, name, patch))
    with contextlib.ExitStack() as stack:
        for room, name, patch in places:
            kept = getattr(room, name)
            setattr(room, name, patch(kept))
            stack.callback(setattr, room, name, kept)
        yield
