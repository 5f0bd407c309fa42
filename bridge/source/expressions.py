"""Source as data: expressions and statements, and the pattern that several equal ones have in common.

A value is known by a key, and is given a name when all of a function is there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from bridge.source.heads import parameters

Key: TypeAlias = Hashable  # of a value or a layer
Nested: TypeAlias = "int | tuple[Nested, ...] | None"  # places of targets


@dataclass(frozen=True)
class Ref:
    """A value, or a layer, that a statement gives."""

    key: Key


@dataclass(frozen=True)
class Name:
    """A parameter of a function or the variable of a loop."""

    text: str


@dataclass(frozen=True)
class Literal:
    """A value as Python writes it; 1 is not True, and NaN is NaN."""

    value: Any = field(compare=False)
    written: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "written", repr(self.value))


@dataclass(frozen=True)
class Node:
    """Everything that has parts. `form` and `head` are

    call      the function, called on `parts` and `settings`
    apply     "": the first part is the layer, which is called on the others
    list, tuple   "": their items
    dict      its keys
    text      "": an f-string
    operator  "+": between two parts, or before one
    brackets  "": around an operator within another
    item      "": x[index]
    slice     "": its three parts
    array     the dtype: numpy's array of the part
    """

    form: str
    head: Any
    parts: tuple[Expression, ...] = ()
    settings: tuple[tuple[str, Expression], ...] = ()


Expression: TypeAlias = Ref | Name | Literal | Node


@dataclass(frozen=True)
class Statement:
    """`targets = value`; a target that is None is not read."""

    targets: tuple[Key | None, ...]
    value: Expression
    hint: str = ""  # of a name for what it gives
    comment: str = ""
    nested: Nested = None  # the lists in which it gives the targets, where they are not one list


@dataclass(frozen=True)
class Carried:
    """A value that goes from one turn of a loop to the next: before it, in a turn, behind that, after the loop."""

    before: Key
    now: Key
    then: Key
    after: Key


@dataclass(frozen=True)
class Loop:
    """A body that runs `count` times, `index` being the number of the turn, with a row of a table each time."""

    body: tuple[Statement | Loop, ...]
    carried: tuple[Carried, ...]
    count: Expression
    index: str  # "" where it is not read
    columns: tuple[str, ...]
    table: Expression

    @property
    def targets(self) -> tuple[Key, ...]:
        return tuple(value.after for value in self.carried)


Body: TypeAlias = tuple[Statement | Loop, ...]
Solve: TypeAlias = Callable[[Sequence[Any], str], Expression]  # values that differ, and what they are called


class Apart(Exception):
    """Expressions have no pattern in common."""


def literal(value: Any) -> Expression:
    return Literal(value)


def call(name: str, /, *parts: Expression, **settings: Expression) -> Node:
    return Node("call", name, parts, tuple(settings.items()))


def refs(whole: Expression | Statement | Loop) -> Iterator[Key]:
    """The keys that are read from outside, in order, as often as they are."""
    if isinstance(whole, Ref):
        yield whole.key
    elif isinstance(whole, Node):
        for part in (*whole.parts, *(value for _, value in whole.settings)):
            yield from refs(part)
    elif isinstance(whole, Statement):
        yield from refs(whole.value)
    elif isinstance(whole, Loop):
        own = {value.now for value in whole.carried} | {key for line in whole.body for key in line.targets}
        yield from (value.before for value in whole.carried)
        yield from (key for line in whole.body for key in refs(line) if key not in own)


def renamed(whole: Any, name: Callable[[Key], Key]) -> Any:
    """With `name(key)` in the place of every key."""
    if isinstance(whole, Ref):
        return Ref(name(whole.key))
    if isinstance(whole, Node):
        settings = tuple((key, renamed(value, name)) for key, value in whole.settings)
        return replace(whole, parts=tuple(renamed(part, name) for part in whole.parts), settings=settings)
    if isinstance(whole, Statement):
        value = renamed(whole.value, name)
        targets = tuple(None if key is None else name(key) for key in whole.targets)
        return replace(whole, targets=targets, value=value)
    if isinstance(whole, Loop):
        before = [name(value.before) for value in whole.carried]
        now = [name(value.now) for value in whole.carried]
        body = tuple(renamed(line, name) for line in whole.body)
        ends = [(name(value.then), name(value.after)) for value in whole.carried]
        carried = tuple(Carried(b, n, *end) for b, n, end in zip(before, now, ends, strict=True))
        return replace(whole, body=body, carried=carried)
    return whole


def signature(whole: Any, keyed: bool = True) -> Hashable:
    """What has to be equal for a common pattern: all but the literals; the keys only if they are `keyed`."""
    if isinstance(whole, Literal):
        return "literal"
    if isinstance(whole, Name):
        return ("name", whole.text)
    if isinstance(whole, Ref):
        return ("ref", whole.key if keyed else "")
    if isinstance(whole, Node):
        settings = [(k, signature(v, keyed)) for k, v in whole.settings if not isinstance(v, Literal)]
        head = whole.head if whole.form != "tuple" else len(whole.parts)
        return (whole.form, head, tuple(signature(part, keyed) for part in whole.parts), tuple(settings))
    if isinstance(whole, Statement):
        targets = whole.targets if keyed else tuple(key is not None for key in whole.targets)
        return (targets, whole.nested, signature(whole.value, keyed))
    if isinstance(whole, Loop):
        carried = whole.carried if keyed else len(whole.carried)
        return (signature(whole.body, keyed), carried, whole.index, whole.columns)
    return tuple(signature(line, keyed) for line in whole)


def pattern(given: Sequence[Any], solve: Solve, default: Callable[[Any, str], Any], hint: str = "") -> Any:
    """What all of `given` are, with `solve` where literals differ; `default(head, setting)` says what a setting is
    that one of them has not. Raises `Apart`."""
    first = given[0]
    if all(one == first for one in given):
        return first
    if any(type(one) is not type(first) for one in given):
        raise Apart
    if isinstance(first, Literal):
        values = [one.value for one in given]
        if all(type(value) is tuple and len(value) == len(values[0]) for value in values):
            parts = (
                pattern(list(map(Literal, items)), solve, default, hint)
                for items in zip(*values, strict=True)
            )
            return Node("tuple", "", tuple(parts))
        return solve(values, hint)
    if isinstance(first, Node):
        return _node_pattern(given, solve, default, hint)
    if isinstance(first, Statement):
        if any((one.targets, one.nested) != (first.targets, first.nested) for one in given):
            raise Apart
        comment = first.comment if all(one.comment == first.comment for one in given) else ""
        value = pattern([one.value for one in given], solve, default)
        return replace(first, value=value, comment=comment)
    if isinstance(first, Loop):
        return _loop_pattern(given, solve, default)
    raise Apart


def _node_pattern(given: Sequence[Node], solve: Solve, default: Any, hint: str) -> Node:
    first = given[0]
    if any(
        (one.form, one.head, len(one.parts)) != (first.form, first.head, len(first.parts)) for one in given
    ):
        raise Apart
    hints = list(parameters(first.head)) if first.form == "call" else []
    hints += [hint] * (len(first.parts) - len(hints))
    parts = [
        pattern(parts, solve, default, name)
        for name, *parts in zip(hints, *(one.parts for one in given), strict=False)
    ]
    settings = []
    for name in dict.fromkeys(name for one in given for name, _ in one.settings):
        values = [dict(one.settings).get(name) for one in given]
        filled = [default(first, name) if value is None else value for value in values]
        settings.append((name, pattern(filled, solve, default, name)))
    return Node(first.form, first.head, tuple(parts), tuple(settings))


def _loop_pattern(given: Sequence[Loop], solve: Solve, default: Any) -> Loop:
    first = given[0]
    if len({(one.carried, one.index, one.columns, len(one.body)) for one in given}) > 1:
        raise Apart
    return replace(
        first,
        body=tuple(
            pattern(lines, solve, default) for lines in zip(*(one.body for one in given), strict=True)
        ),
        count=pattern([one.count for one in given], solve, default, "depth"),
        table=_table([one.table for one in given], solve),
    )


def _table(tables: Sequence[Expression], solve: Solve) -> Expression:
    """One table, or a whole one as a parameter."""
    if all(table == tables[0] for table in tables):
        return tables[0]
    values = [table.value for table in tables if isinstance(table, Literal)]
    if len(values) < len(tables):
        raise Apart
    return solve(values, "rows")
