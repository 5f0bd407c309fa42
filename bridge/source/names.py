"""Names for the values of a function: one that is read no further hands its name on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, count
from typing import Any

from bridge.source.expressions import Body, Key, Loop, Name, Node, Ref, Statement, refs
from bridge.source.functions import Function
from bridge.source.heads import RESERVED, identifier

END = 10**9  # behind the last line
PLAIN = "xyz"  # names of values without a better one


def named(function: Function, taken: Iterable[str]) -> Function:
    """The function with names in the place of keys."""
    return _Naming({*taken, *_names_in(function.body), *function.parameters}).function(function)


class _Naming:
    def __init__(self, taken: set[str]):
        self.taken = RESERVED | taken  # by what is no value
        self.names: dict[Key, str] = {}
        self.live: dict[str, float] = {}  # until which line a name is had
        self.inputs: set[Key] = set()  # of the model

    def function(self, function: Function) -> Function:
        last = _last(function.body, refs(function.outputs))
        for key, hint in zip(function.inputs, function.hints, strict=True):
            self.names[key] = self._fresh(hint, 0, last.get(key, 0))
            if self.names[key] not in PLAIN:
                self.inputs.add(key)
        body = self._body(function.body, last)
        inputs = tuple(self.names[key] for key in function.inputs)
        return replace(function, inputs=inputs, body=body, outputs=self._told(function.outputs))

    def _told(self, whole: Any) -> Any:
        if isinstance(whole, Ref):
            return Name(self.names[whole.key])
        if isinstance(whole, Node):
            settings = tuple((key, self._told(value)) for key, value in whole.settings)
            return replace(whole, parts=tuple(map(self._told, whole.parts)), settings=settings)
        return whole

    def _body(self, body: Body, last: dict[Key, float]) -> Body:
        made: list[Statement | Loop] = []
        for place, line in enumerate(body):
            made += (
                self._loop(line, place, last)
                if isinstance(line, Loop)
                else [self._statement(line, place, last)]
            )
        return tuple(made)

    def _statement(self, line: Statement, place: int, last: dict[Key, float]) -> Statement:
        value = self._told(line.value)
        reads = list(refs(line.value))
        for key in reads:
            if last[key] <= place:
                self.live.pop(self.names[key], None)
        targets: list[Key | None] = []
        if isinstance(value, Node) and value.head == "keras.Input":
            self.inputs |= set(line.targets)
        for index, key in enumerate(line.targets):
            if key is None:
                targets.append(None)
                continue
            same = self.names.get(key) or (self._handed_on(line, reads) if index == 0 else None)
            hint = line.hint if index == 0 else "state" if _is_recurrent(value) else ""
            is_said = hint == "state" or isinstance(value, Node) and value.form == "call"
            self.names[key] = same or self._fresh(hint, place, last.get(key, place), is_said)
            self.live[self.names[key]] = last.get(key, place)
            targets.append(self.names[key])
        return replace(line, targets=tuple(targets), value=value)

    def _handed_on(self, line: Statement, reads: list[Key]) -> str | None:
        """The name of the first value that is read, if nobody reads that again."""
        values = [key for key in reads if not (isinstance(key, tuple) and key[0] in ("layer", "table"))]
        name = self.names[values[0]] if values else None
        is_free = name is not None and name not in self.live and name not in self.taken
        return name if is_free and values[0] not in self.inputs else None

    def _fresh(self, hint: str, place: int, last: float, is_said: bool = True) -> str:
        base = identifier(hint)
        plain = () if is_said and not re.fullmatch(r"\w*\d|x|", hint) else PLAIN
        names = chain(plain, [base], (f"{base}_{number}" for number in count(2)))
        name = next(name for name in names if name not in self.live and name not in self.taken)
        self.live[name] = last
        return name

    def _loop(self, line: Loop, place: int, last: dict[Key, float]) -> Iterator[Statement | Loop]:
        copies: list[Statement | Loop] = []
        for value in line.carried:
            before = self.names[value.before]
            if last[value.before] <= place and [one.before for one in line.carried].count(value.before) == 1:
                name = before
            else:
                name = self._fresh("x", place, END)
                copies.append(Statement((name,), Name(before)))
            self.live[name] = END
            self.names[value.now] = self.names[value.after] = name
        inner_last = _last(line.body, ())
        outside = {key for inner in line.body for key in refs(inner)}
        held = dict(self.live)
        for key in outside:
            if key in self.names and key not in {value.now for value in line.carried}:
                inner_last[key] = END
        body = self._turn(line, inner_last)
        self.live = held
        for value in line.carried:
            self.live[self.names[value.after]] = last.get(value.after, place)
        for name, until in list(self.live.items()):
            if until <= place:
                del self.live[name]
        return iter([*copies, replace(line, body=body)])

    def _turn(self, line: Loop, last: dict[Key, float]) -> Body:
        """The body of a loop; what goes on has the same name at its end as at its start."""
        for value in line.carried:
            last[value.then] = END
        body = self._body(line.body, last)
        ends = [
            Statement((self.names[value.now],), Name(self.names[value.then]))
            for value in line.carried
            if self.names[value.then] != self.names[value.now]
        ]
        if len(ends) > 1:
            targets = tuple(end.targets[0] for end in ends)
            ends = [Statement(targets, Node("tuple", "", tuple(end.value for end in ends)))]
        return (*body, *ends)


def _is_recurrent(value: Any) -> bool:
    """Whether it is a call of a layer that gives its states behind what it gives."""
    made = value.parts[0] if isinstance(value, Node) and value.form == "apply" else None
    return isinstance(made, Node) and re.search("LSTM|GRU|RNN|Cell|Bidirectional", str(made.head)) is not None


def _last(body: Body, behind: Iterable[Key]) -> dict[Key, float]:
    """The last line in which each value is read."""
    last: dict[Key, float] = {key: place for place, line in enumerate(body) for key in refs(line)}
    return last | dict.fromkeys(behind, END)


def _names_in(whole: Any) -> set[str]:
    """What parameters and variables of loops are called."""
    if isinstance(whole, Name):
        return {whole.text}
    if isinstance(whole, tuple):
        return {name for part in whole for name in _names_in(part)}
    if isinstance(whole, Node):
        return _names_in(whole.parts) | {name for _, value in whole.settings for name in _names_in(value)}
    if isinstance(whole, Statement):
        return _names_in(whole.value)
    if isinstance(whole, Loop):
        return {whole.index, *whole.columns} | _names_in(whole.body)
    return set()
