"""Operations within others: what the next line alone reads stands there, as far as that is one line."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from bridge.source.expressions import Body, Expression, Key, Loop, Name, Node, Ref, Statement, refs
from bridge.source.functions import Function
from bridge.source.text import flat

LONGEST = 64  # characters of a line that something is put into
SOME = Name("x_2")  # a value, while lines are measured


def nested(function: Function) -> Function:
    """The function with operations within others."""
    reads = Counter(refs(function.outputs))
    _count(function.body, reads)
    return replace(function, body=_body(function.body, reads))


def _count(body: Body, reads: Counter[Key]) -> None:
    for line in body:
        if isinstance(line, Loop):
            _count(line.body, reads)
            reads.update(key for one in line.carried for key in (one.before, one.then, one.then))
        else:
            reads.update(refs(line))


def _body(body: Body, reads: Counter[Key]) -> Body:
    made: list[Statement | Loop] = []
    for line in body:
        if isinstance(line, Loop):
            made.append(replace(line, body=_body(line.body, reads)))
            continue
        while made and (joined := _within(made[-1], line, reads)) is not None:
            made.pop()
            line = joined
        made.append(line)
    return tuple(made)


def _within(inner: Statement | Loop, outer: Statement, reads: Counter[Key]) -> Statement | None:
    """`outer` with what `inner` gives in it, if that is read there only and is one line."""
    if isinstance(inner, Loop) or len(inner.targets) != 1 or inner.nested is not None or inner.comment:
        return None
    key = inner.targets[0]
    if key is None or reads[key] != 1 or key not in refs(outer) or not _is_operation(inner.value):
        return None
    value = _put(outer.value, key, inner.value)
    return replace(outer, value=value) if len(flat(_measured(value))) <= LONGEST else None


def _is_operation(value: Expression) -> bool:
    if not isinstance(value, Node) or _depth(value) > 1:
        return False
    return value.form in ("operator", "item") or (value.form == "call" and str(value.head).startswith("ops."))


def _depth(value: Expression) -> int:
    """How many operations stand within one another."""
    if not isinstance(value, Node):
        return 0
    own = value.form in ("operator", "item") or (value.form == "call" and str(value.head).startswith("ops."))
    return own + max(map(_depth, (*value.parts, *(part for _, part in value.settings))), default=0)


def _put(whole: Any, key: Key, value: Expression, is_operand: bool = False) -> Any:
    if isinstance(whole, Ref) and whole.key == key:
        needs = is_operand and isinstance(value, Node) and value.form == "operator"
        return Node("brackets", "", (value,)) if needs else value
    if not isinstance(whole, Node):
        return whole
    inside = whole.form in ("operator", "item")
    settings = tuple((name, _put(part, key, value)) for name, part in whole.settings)
    return replace(
        whole, parts=tuple(_put(part, key, value, inside) for part in whole.parts), settings=settings
    )


def _measured(whole: Any) -> Any:
    if isinstance(whole, Ref):
        return SOME
    if not isinstance(whole, Node):
        return whole
    settings = tuple((name, _measured(part)) for name, part in whole.settings)
    return replace(whole, parts=tuple(map(_measured, whole.parts)), settings=settings)
