"""How much memory is free, and whether what is about to start fits into it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from bridge.errors import SourceError

ROOT = Path("/")
# By the folder of a hierarchy of groups: the files of its limit, of what is taken, and what of that are copies of files
GROUPS = {
    "sys/fs/cgroup": ("memory.max", "memory.current", "inactive_file"),
    "sys/fs/cgroup/memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def require_room(title: str, parts: Mapping[str, float], ways: str) -> None:
    """Raise `SourceError` with the sum, and the ways out, where `parts`, bytes by what they are for, are more together
    than memory is free."""
    needed, free = sum(parts.values()), available()
    if needed > free:
        terms = ", ".join(f"{size / 1e9:.3g} GB for {name}" for name, size in parts.items())
        raise SourceError(
            f"{title} does not fit into memory: {terms}, {needed / 1e9:.3g} GB together, and {free / 1e9:.3g} GB are "
            f"free; {ways}"
        )


def available(root: Path = ROOT) -> float:
    """The bytes of memory that may be taken without others being pushed out, by what the system, the limits of the
    process's groups and its own leave; infinitely many where nothing says it."""
    return min((_of_system(root), *_of_groups(root), *_of_process(root)))


def _of_system(root: Path) -> float:
    lines = _read(root / "proc/meminfo").splitlines()
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), math.inf)


def _of_groups(root: Path) -> Iterator[float]:
    """What each limit of a group leaves, of those that the process's own stands in too."""
    groups = [line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines()]
    paths = [path for _, kinds, path in groups if kinds in ("", "memory")]
    for folder, (limit, taken, files) in GROUPS.items():
        places = {part for path in paths for part in (Path(path), *Path(path).parents)}
        for place in {root / folder / path.relative_to("/") for path in places}:
            most, used = _read(place / limit).strip(), _read(place / taken).strip()
            if most.isdigit() and used.isdigit():
                told = dict(line.split(" ", 1) for line in _read(place / "memory.stat").splitlines())
                yield int(most) - int(used) + int(told.get(files, 0))


def _of_process(root: Path) -> Iterator[float]:
    """What the bound on the data of this process leaves, if there is one."""
    try:
        import resource
    except ImportError:  # Windows
        return
    bound, _ = resource.getrlimit(resource.RLIMIT_DATA)
    for line in _read(root / "proc/self/status").splitlines():
        if line.startswith("VmData:") and bound != resource.RLIM_INFINITY:
            yield bound - (int(line.split()[1]) << 10)


def _read(path: Path) -> str:
    """What stands in a file of the system, or nothing."""
    try:
        return path.read_text()
    except OSError:
        return ""
