"""Runs of equal statements as loops."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

from bridge.source.expressions import (
    Apart,
    Body,
    Carried,
    Expression,
    Key,
    Literal,
    Loop,
    Name,
    Node,
    Statement,
    pattern,
    refs,
    renamed,
    signature,
)
from bridge.source.heads import EMPTY, default_of, free, identifier

LETTERS = "ijkabcdef"
COLUMNS = 4  # of a table, at most
TRIES = 200  # places for a loop that are looked at, of one body
SERIAL = count()
Line = Statement | Loop


Default: TypeAlias = Callable[[Node, str], Expression]


def default_literal(node: Node, setting: str) -> Expression:
    """What a setting is that a call does not have. Raises `Apart`."""
    value = default_of(str(node.head), setting) if node.form == "call" else EMPTY
    if value is EMPTY:
        raise Apart
    return Literal(value)


@dataclass(frozen=True)
class Place:
    """Where a loop may be: `turns` blocks of `length` lines each, from `start` on."""

    start: int
    length: int
    turns: int

    @property
    def saved(self) -> int:
        return self.length * (self.turns - 1) - 1

    @property
    def end(self) -> int:
        return self.start + self.length * self.turns


def folded(body: Body, wanted: frozenset[Key], default: Default = default_literal) -> Body:
    """`body` with loops where blocks of lines repeat; `wanted` are the keys that are read behind it."""
    lines = list(body)
    while found := _first_loop(lines, wanted, default):
        place, loop = found
        lines[place.start : place.end] = [loop]
    return tuple(lines)


def _first_loop(lines: list[Line], wanted: frozenset[Key], default: Default) -> tuple[Place, Loop] | None:
    """The loop that saves most lines."""
    places = sorted(_places(lines), key=lambda place: (-place.saved, place.length, place.start))
    for place in places[:TRIES]:
        loop = _loop(lines, place, wanted, default)
        if loop is not None:
            return place, loop
    return None


def _places(lines: Sequence[Line]) -> Iterator[Place]:
    known: dict[Hashable, int] = {}
    kinds = [known.setdefault(signature(line, keyed=False), len(known)) for line in lines]
    for length in range(1, len(kinds) // 2 + 1):
        start = 0
        while start + 2 * length <= len(kinds):
            end = start
            while end + length < len(kinds) and kinds[end] == kinds[end + length]:
                end += 1
            if turns := (end - start) // length:
                yield from _within(start, length, end - start, turns + 1)
            start = max(end, start + 1)


def _within(start: int, length: int, same: int, turns: int) -> Iterator[Place]:
    """The places in a run of lines that are the same as those `length` further on."""
    for first in range(min(length, same - (turns - 1) * length + length)):
        most = (same - first) // length + 1
        for fewer in range(min(3, most - 1)):
            place = Place(start + first, length, most - fewer)
            if place.turns > 1 and place.saved > 0:
                yield place


class _Repeated:
    """The blocks of a place: which values stay in one, go on to the next, or come from outside."""

    def __init__(self, lines: Sequence[Line], place: Place):
        self.blocks = [
            lines[place.start + turn * place.length :][: place.length] for turn in range(place.turns)
        ]
        self.slots = [
            {
                key: (at, index)
                for at, line in enumerate(block)
                for index, key in enumerate(line.targets)
                if key is not None
            }
            for block in self.blocks
        ]
        self.carried: dict[tuple[int, int], Key] = {}  # by the slot, what it is before the loop

    def holds(self) -> bool:
        """Whether each block reads of itself, of the one before and of what is outside as the first does."""
        reads = [[key for line in block for key in refs(line)] for block in self.blocks]
        if len({len(found) for found in reads}) > 1:
            return False
        return all(self._is_regular(keys) for keys in zip(*reads, strict=True))

    def _is_regular(self, keys: tuple[Key, ...]) -> bool:
        own = [slots.get(key) for key, slots in zip(keys, self.slots, strict=True)]
        if None not in own:
            return len(set(own)) == 1
        if any(own):
            return False
        before = {slots.get(key) for key, slots in zip(keys[1:], self.slots[:-1], strict=True)}
        slot = next(iter(before))
        if len(before) == 1 and slot is not None and not self._is_made(keys[0]):
            return self.carried.setdefault(slot, keys[0]) == keys[0]
        return len(set(keys)) == 1 and not self._is_made(keys[0])

    def _is_made(self, key: Key) -> bool:
        return any(key in slots for slots in self.slots)

    def gives(self, wanted: set[Key]) -> bool:
        """Whether what is read elsewhere is what the last turn leaves of a value that goes on."""
        last = self.slots[-1]
        read = {key for slots in self.slots for key in slots if key in wanted}
        return all(last.get(key) in self.carried for key in read)

    def plain(self, turn: int, serial: int) -> list[Line]:
        """A block, its values called alike in each."""
        before = self.slots[turn - 1] if turn else {}
        entering = {first: slot for slot, first in self.carried.items()} if not turn else before

        def name(key: Key) -> Key:
            if key in self.slots[turn]:
                return ("turn", serial, *self.slots[turn][key])
            slot = entering.get(key)
            return ("now", serial, *slot) if slot in self.carried else key

        return [renamed(line, name) for line in self.blocks[turn]]


def _loop(lines: Sequence[Line], place: Place, wanted: frozenset[Key], default: Default) -> Loop | None:
    repeated = _Repeated(lines, place)
    others = [*lines[: place.start], *lines[place.end :]]
    if not repeated.holds() or not repeated.gives({*wanted, *(key for line in others for key in refs(line))}):
        return None
    serial = next(SERIAL)
    turns = [repeated.plain(turn, serial) for turn in range(place.turns)]
    inner = [line.index for line in turns[0] if isinstance(line, Loop)]
    table = _Table(LETTERS[max((LETTERS.find(letter) + 1 for letter in inner if letter), default=0)])
    try:
        body = tuple(pattern(same, table.solve, default) for same in zip(*turns, strict=True))
    except Apart:
        return None
    rows = len(table.columns) > 1 or any(len(repr(value)) > 12 for v in table.columns.values() for value in v)
    if len(table.columns) > COLUMNS or place.saved <= (place.turns if rows else 0):
        return None
    last = {slot: key for key, slot in repeated.slots[-1].items()}
    carried = tuple(
        Carried(first, ("now", serial, *slot), ("turn", serial, *slot), last[slot])
        for slot, first in repeated.carried.items()
    )
    return Loop(body, carried, *table.made(place.turns))


class _Table:
    """What differs from turn to turn: by its number, or else in a column."""

    def __init__(self, letter: str):
        self.letter, self.start, self.is_read = letter, 0, False
        self.columns: dict[str, tuple[Any, ...]] = {}

    def made(self, turns: int) -> tuple[Expression, str, tuple[str, ...], Expression]:
        """The count, the index, the columns and the table of the loop."""
        rows = tuple(zip(*self.columns.values(), strict=True))
        if len(self.columns) == 1:
            rows = tuple(row[0] for row in rows)
        counted = (
            Literal(turns)
            if not self.start
            else Node("tuple", "", (Literal(self.start), Literal(self.start + turns)))
        )
        return counted, self.letter if self.is_read else "", tuple(self.columns), Literal(rows)

    def solve(self, values: Sequence[Any], hint: str) -> Expression:
        if all(type(value) is int for value in values) and (number := self._number(values)) is not None:
            return number
        if all(type(value) is str for value in values) and (text := self._text(values)) is not None:
            return text
        known = next((name for name, column in self.columns.items() if alike(column, values)), None)
        if known is None:
            known = free(identifier(hint or "value"), self.columns)
            self.columns[known] = tuple(values)
        return Name(known)

    def _number(self, values: Sequence[int]) -> Expression | None:
        if list(values) != list(range(values[0], values[0] + len(values))):
            return None
        if not self.is_read:
            self.start, self.is_read = values[0], True
        apart = values[0] - self.start
        index = Name(self.letter)
        return Node("operator", "+" if apart > 0 else "-", (index, Literal(abs(apart)))) if apart else index

    def _text(self, values: Sequence[str]) -> Expression | None:
        """Texts that are one but for the numbers in them, of which each is what all have, or the turn's."""
        pieces = [re.split(r"(\d+)", value) for value in values]
        if len({len(found) for found in pieces}) > 1:
            return None
        parts: list[Expression] = []
        for place, same in enumerate(zip(*pieces, strict=True)):
            if len(set(same)) == 1:
                parts.append(Literal(same[0]))
            elif place % 2 == 0 or any(text != str(int(text)) for text in same):
                return None
            else:
                number = self._number([int(text) for text in same])
                if number is None:
                    return None
                parts.append(number)
        return joined(parts)


def joined(parts: Sequence[Expression]) -> Node:
    """An f-string, texts in a row being one."""
    made: list[Expression] = []
    for part in parts:
        inner = part.parts if isinstance(part, Node) and part.form == "text" else (part,)
        for piece in inner:
            if isinstance(piece, Literal) and made and isinstance(made[-1], Literal):
                made[-1] = Literal(f"{made[-1].value}{piece.value}")
            elif not isinstance(piece, Literal) or piece.value != "":
                made.append(piece)
    return Node("text", "", tuple(made))


def alike(column: Sequence[Any], values: Sequence[Any]) -> bool:
    return [repr(value) for value in column] == [repr(value) for value in values]
