"""Members of archives, read where they lie."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.files.archives import Member

CONTENT = bytes(range(256)) * 40


def archive(method: int = zipfile.ZIP_STORED) -> io.BytesIO:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as target:
        target.writestr("before", b"something else")
        target.writestr("what is read", CONTENT)
        target.writestr("after", b"something else")
    return made


@given(
    st.lists(
        st.tuples(
            st.integers(-300, 11_000), st.sampled_from([os.SEEK_SET, os.SEEK_END]), st.integers(-1, 999)
        )
    )
)
def test_a_member_is_read_as_its_bytes_would_be(steps: list[tuple[int, int, int]]) -> None:
    ours, theirs = member(archive()), io.BytesIO(CONTENT)
    for offset, whence, count in steps:
        where = max(0, offset + (len(CONTENT) if whence == os.SEEK_END else 0))
        assert ours.seek(offset, whence) == theirs.seek(where)
        assert ours.read(count) == theirs.read(count)
        assert ours.tell() == theirs.tell()


def member(made: io.BytesIO) -> Member:
    opened = zipfile.ZipFile(made)
    return Member(opened, opened.getinfo("what is read"))


def _cut(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    info.file_size = 1 << 40


def _beyond(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    info.header_offset = 1 << 40


def _packed(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    info.compress_type = zipfile.ZIP_DEFLATED


@pytest.mark.parametrize("harm", [_cut, _beyond, _packed])
def test_a_member_that_is_not_there_as_it_is(
    harm: Callable[[zipfile.ZipFile, zipfile.ZipInfo], None],
) -> None:
    opened = zipfile.ZipFile(archive())
    info = opened.getinfo("what is read")
    harm(opened, info)
    with pytest.raises(ValueError, match="not in it as it is|cut short"):
        Member(opened, info)
