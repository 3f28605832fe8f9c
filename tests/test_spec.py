"""The byte tables of docs/format.md against the code."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from flac_xarray import container, header, tile_table

SPEC = Path(__file__).parent.parent / "docs" / "format.md"
PARTS = {
    "2.1 Length": container.LENGTH,
    "2.2 Seal": container.SEAL,
    "2.3 Row of a tile table": tile_table.ENTRY,
    "6. Checksums": tile_table.POSITION,
}


def byte_table(title: str) -> list[tuple[int, int, str, str]]:
    section = SPEC.read_text("utf-8").split(f" {title}\n", 1)[1]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
    rows = re.findall(
        r"^\| (\d+) \| (\d+) \| `(\S+)` \| (\w+) \|", section, re.MULTILINE
    )
    return [(int(o), int(n), kind, name) for o, n, kind, name in rows]


@pytest.mark.parametrize("title", PARTS)
def test_offsets_and_types_of_the_page_are_those_of_the_code(title):
    rows = byte_table(title)
    assert rows
    at = 0
    for offset, nbytes, kind, _ in rows:
        assert (offset, np.dtype(kind).itemsize) == (at, nbytes)
        at += nbytes
    letters = {"S4": "4s", "u4": "I", "u8": "Q"}
    order = {kind[0] for *_, kind, _ in rows if kind[0] in "<>"}
    assert len(order) == 1
    code = order.pop() + "".join(letters[kind.lstrip("<>")] for *_, kind, _ in rows)
    assert struct.Struct(code).size == at
    assert PARTS[title].format == code


def test_the_table_s_names_are_the_code_s():
    names = tuple(name for *_, name in byte_table("2.3 Row of a tile table"))
    assert names == tile_table.ENTRY_DTYPE.names
    assert tile_table.ENTRY_DTYPE.itemsize == tile_table.ENTRY.size


def test_version_and_magic_are_those_of_the_page():
    text = SPEC.read_text("utf-8")
    assert f"version {header.FORMAT_VERSION}" in text.splitlines()[0]
    assert f"`{container.SEAL_MAGIC.decode()}`" in text
    assert len(container.START) + 4 == 38
    assert "bytes 4 to 38 name the format" in text
