"""Expressions and statements as lines, laid out as ruff does."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bridge.source.expressions import Body, Expression, Literal, Loop, Name, Nested, Node, Statement
from bridge.source.heads import needed
from bridge.source.loops import joined

WIDTH = 88
STEP = 4  # of indentation
BRACKETS = {"list": ("[", "]"), "tuple": ("(", ")"), "dict": ("{", "}")}


def quoted(text: str) -> str:
    """`text` as Python writes it in double quotes, where those need no more escapes than single ones."""
    single = repr(text)
    if text.count('"') > text.count("'"):
        return single if single[0] == "'" else _other_quotes(single)
    return single if single[0] == '"' else _other_quotes(single)


def _other_quotes(written: str) -> str:
    old, new = written[0], "'\""[written[0] == "'"]
    inner = written[1:-1].replace(f"\\{old}", old).replace(new, f"\\{new}")
    return f"{new}{inner}{new}"


def plain(value: Any) -> str:
    """A value as Python writes it."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, tuple):
        items = ", ".join(map(plain, value))
        return f"({items},)" if len(value) == 1 else f"({items})"
    return "..." if value is Ellipsis else repr(value)


def flat(whole: Expression) -> str:
    """An expression on one line."""
    if isinstance(whole, Literal):
        return plain(whole.value)
    if isinstance(whole, Name):
        return whole.text
    assert isinstance(whole, Node), whole
    if whole.form in ("call", "apply", "array"):
        head, items = _bracketed(whole)
        return f"{head}({', '.join(items)})"
    parts = [flat(part) for part in whole.parts]
    match whole.form:
        case "list":
            return f"[{', '.join(parts)}]"
        case "tuple":
            return f"({', '.join(parts)}{',' * (len(parts) == 1)})"
        case "dict":
            return "{" + ", ".join(f"{quoted(k)}: {v}" for k, v in zip(whole.head, parts, strict=True)) + "}"
        case "operator":
            return f" {whole.head} ".join(parts) if len(parts) > 1 else f"{whole.head}{parts[0]}"
        case "text":
            return _formatted(whole)
        case "brackets":
            return f"({parts[0]})"
        case "item":
            key = whole.parts[1]
            return f"{parts[0]}[{_key(key)}]"
        case "slice":
            return _slice(whole)
    raise AssertionError(whole.form)


def _formatted(whole: Node) -> str:
    parts = joined(whole.parts).parts
    if all(isinstance(part, Literal) for part in parts):
        return quoted("".join(str(part.value) for part in parts if isinstance(part, Literal)))
    pieces = [
        part.value.replace("{", "{{").replace("}", "}}") if isinstance(part, Literal) else f"{{{flat(part)}}}"
        for part in parts
    ]
    return f"f{quoted(''.join(pieces))}"


def _key(key: Expression) -> str:
    if isinstance(key, Node) and key.form in ("tuple", "list") and key.parts:
        places = [flat(part) for part in key.parts]
        return ", ".join(places if len(places) > 1 else [*places, "..."])  # Keras takes no slice alone
    if isinstance(key, Literal) and isinstance(key.value, tuple) and key.value:
        return ", ".join(map(plain, key.value))
    return flat(key)


def _slice(whole: Node) -> str:
    start, stop, step = ("" if p == Literal(None) else flat(p) for p in whole.parts)
    return f"{start}:{stop}" if not step else f"{start}:{stop}:{step}"


def _bracketed(whole: Node) -> tuple[str, list[str]]:
    """What stands before the brackets of a call, and what in them."""
    pairs = _items(whole)
    return _head(whole), [f"{name}={flat(value)}" if name else flat(value) for name, value in pairs]


def _head(whole: Node) -> str:
    if whole.form == "apply":
        return flat(whole.parts[0])
    if whole.form == "array":
        return "np.array"
    return str(whole.head)


def _items(whole: Node) -> list[tuple[str, Expression]]:
    if whole.form == "array":
        return [("", whole.parts[0]), ("", Literal(whole.head))]
    parts = whole.parts[1:] if whole.form == "apply" else whole.parts
    settings, spoken = dict(whole.settings), list[Expression]()
    if whole.form == "call":
        for name in needed(str(whole.head))[len(parts) :]:
            if name not in settings:
                break
            spoken.append(settings.pop(name))
    return [*(("", part) for part in (*parts, *spoken)), *settings.items()]


def lines(prefix: str, whole: Expression, suffix: str, indent: int) -> Iterator[str]:
    """`prefix`, the expression and `suffix`, on as many lines as that takes."""
    margin, text = " " * indent, flat(whole)
    if len(margin) + len(prefix) + len(text) + len(suffix) <= WIDTH:
        yield f"{margin}{prefix}{text}{suffix}"
        return
    if isinstance(whole, Literal) and isinstance(whole.value, tuple) and whole.value:
        whole = Node("tuple", "", tuple(map(Literal, whole.value)))
    if not isinstance(whole, Node):
        yield f"{margin}{prefix}{text}{suffix}"
        return
    if whole.form == "operator" and len(whole.parts) > 1:
        yield from lines(f"{prefix}{flat(whole.parts[0])} {whole.head} ", whole.parts[1], suffix, indent)
        return
    if whole.form == "apply" and isinstance(whole.parts[0], Node):
        head, items = _bracketed(whole)
        ending = f"({', '.join(items)}){suffix}"
        if len(margin) + len(prefix) + len(head) + 1 > WIDTH:
            yield from lines(prefix, whole.parts[0], ending, indent)
            return
    yield from _split(prefix, whole, suffix, indent)


def _split(prefix: str, whole: Node, suffix: str, indent: int) -> Iterator[str]:
    margin, inner = " " * indent, " " * (indent + STEP)
    if whole.form in ("call", "apply", "array"):
        pairs = [(f"{name}=" if name else "", value) for name, value in _items(whole)]
        yield f"{margin}{prefix}{_head(whole)}("
        row = ", ".join(f"{name}{flat(value)}" for name, value in pairs)
        if len(inner) + len(row) <= WIDTH:
            yield f"{inner}{row}"
        else:
            for name, value in pairs:
                yield from lines(name, value, ",", indent + STEP)
        yield f"{margin}){suffix}"
    elif whole.form in BRACKETS:
        opening, closing = BRACKETS[whole.form]
        keys = [f"{quoted(key)}: " for key in whole.head] if whole.form == "dict" else [""] * len(whole.parts)
        yield f"{margin}{prefix}{opening}"
        for key, value in zip(keys, whole.parts, strict=True):
            yield from lines(key, value, ",", indent + STEP)
        yield f"{margin}{closing}{suffix}"
    else:
        yield f"{margin}{prefix}{flat(whole)}{suffix}"


def body_lines(body: Body, indent: int = STEP) -> Iterator[str]:
    for line in body:
        yield from _loop_lines(line, indent) if isinstance(line, Loop) else _statement_lines(line, indent)


def _statement_lines(line: Statement, indent: int) -> Iterator[str]:
    if line.comment:
        yield from comment_lines(line.comment, indent)
    names = [str(key) if key is not None else "_" for key in line.targets]
    if line.nested is not None:
        yield from lines(f"{_unpacked(line.nested, names)} = ", line.value, "", indent)
        return
    value = line.value
    if len(names) > 1 and isinstance(value, Node) and value.form == "tuple":
        yield f"{' ' * indent}{', '.join(names)} = {', '.join(map(flat, value.parts))}"
        return
    yield from lines(f"{', '.join(names)} = ", value, "", indent)


def _unpacked(nested: Nested, names: Sequence[str], is_inner: bool = False) -> str:
    if not isinstance(nested, tuple):
        return names[int(nested or 0)]
    inner = [_unpacked(part, names, True) for part in nested]
    return (
        f"({', '.join(inner)}{',' * (len(inner) == 1)})" if is_inner or len(inner) == 1 else ", ".join(inner)
    )


def comment_lines(text: str, indent: int) -> Iterator[str]:
    """A comment, or several that are parted by newlines."""
    for part in text.split("\n"):
        wide = max(WIDTH - indent - 2, 20)
        yield from (f"{' ' * indent}# {row}" for row in textwrap.wrap(part, wide, break_long_words=False))


def _loop_lines(line: Loop, indent: int) -> Iterator[str]:
    columns = (
        f"({', '.join(line.columns)})" if line.index and len(line.columns) > 1 else ", ".join(line.columns)
    )
    margin = " " * indent
    if not line.columns:
        count = line.count.parts if isinstance(line.count, Node) else (line.count,)
        yield f"{margin}for {line.index or '_'} in range({', '.join(map(flat, count))}):"
    elif not line.index:
        yield from lines(f"for {columns} in ", line.table, ":", indent)
    else:
        start = (Literal(line.count.parts[0].value),) if isinstance(line.count, Node) else ()  # type: ignore[union-attr]
        counted = Node("call", "enumerate", (line.table, *start))
        yield from lines(f"for {line.index}, {columns} in ", counted, ":", indent)
    yield from body_lines(line.body, indent + STEP)


def definition(name: str, parameters: Mapping[str, Expression | None]) -> Iterator[str]:
    """The line of a function, or its lines; `parameters` have their defaults."""
    needed = [Name(key) for key, default in parameters.items() if default is None]
    usual = tuple((key, default) for key, default in parameters.items() if default is not None)
    yield from lines("def ", Node("call", name, tuple(needed), usual), ":", 0)
