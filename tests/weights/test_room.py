"""What cannot fit into memory says so before it starts, with the sum and the way out."""

from pathlib import Path

import pytest
import torch

import bridge
from bridge.weights.room import available

MEMORY = "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n"
V1 = ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")


@pytest.mark.parametrize(
    ("group", "form", "place", "limit", "left"),
    [
        ("0::/", V2, "", "max", 8000 << 10),
        ("0::/jobs/one", V2, "jobs/one", "5000000", 5_000_000 - 4_000_000 + 300),
        ("0::/jobs/one", V2, "jobs", "5000000", 5_000_000 - 4_000_000 + 300),
        ("0::/jobs/one", V2, "jobs/another", "5000000", 8000 << 10),
        ("5:cpu:/x\n4:memory:/box", V1, "box", "5000000", 5_000_000 - 4_000_000 + 300),
        ("4:memory:/box", V1, "box", "9223372036854771712", 8000 << 10),
    ],
)
def test_memory_is_what_system_and_groups_leave(
    tmp_path: Path, group: str, form: tuple[str, ...], place: str, limit: str, left: int
) -> None:
    folder, most, taken, files = form
    there = tmp_path / folder / place
    (tmp_path / "proc/self").mkdir(parents=True)
    there.mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(MEMORY)
    (tmp_path / "proc/self/cgroup").write_text(f"{group}\n")
    (there / most).write_text(f"{limit}\n")
    (there / taken).write_text("4000000\n")
    (there / "memory.stat").write_text(f"anon 12\n{files} 300\n")
    assert available(tmp_path) == left


def test_memory_is_endless_where_nothing_says_it(tmp_path: Path) -> None:
    assert available(tmp_path) == float("inf")


def test_a_bound_on_the_data_of_the_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("VmSize: 9 kB\nVmData: 1000 kB\n")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (3000 << 10, 3000 << 10))
    assert available(tmp_path) == 2000 << 10


WEIGHTS = 4 * (100 * 300 + 300)


@pytest.mark.parametrize(
    ("free", "verify", "says"),
    [
        (
            WEIGHTS,
            False,
            r"Linear does not fit into memory: 0.000121 GB for Keras's copy of its weights, 0.00012 GB for the largest "
            r"of them on its way, 0.000241 GB together, and 0.000121 GB are free; give it in float16 or convert it "
            r"where there is more",
        ),
        (
            3 * WEIGHTS,
            True,
            r"0.16 GB for the values of its proof, .* are free; convert it with verify=False, compare at smaller sizes "
            r"\(Verify\(sizes=…\)\), give it in float16 or convert it where there is more",
        ),
        (3 * WEIGHTS, False, ""),
    ],
)
def test_what_cannot_fit_says_so_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, free: int, verify: bool, says: str
) -> None:
    rows = 66_667 if verify else 1
    module, args = torch.nn.Linear(100, 300), torch.zeros(1, 100).expand(rows, 100)
    monkeypatch.setattr("bridge.weights.room.available", lambda: free)
    if not says:
        assert bridge.convert(module, args, verify=verify).model
        return
    monkeypatch.setattr("bridge.build.builder.build", None)
    with pytest.raises(bridge.SourceError, match=says):
        bridge.convert(module, args, verify=verify)
