"""The viewer's JavaScript under Node: each transform, each dtype, bytes of others."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flac_xarray.transforms.plan import Plan
from flac_xarray.viewer.page import PAGE_FOLDER
from tests.viewer_tiles import chosen_tiles, classes, forced, forced_tiles

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node on PATH")
SCRIPT = Path(__file__).with_name("decode_tiles.mjs")


def decode(folder, tiles):
    """Give what the viewer's modules make of tiles: digests, or errors."""
    manifest = []
    for k, tile in enumerate(tiles):
        (folder / f"{k}.flac").write_bytes(tile.data)
        about = {"file": f"{k}.flac", "shape": tile.shape, "dtype": tile.dtype}
        manifest.append(about)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = subprocess.run(
        [NODE, SCRIPT, PAGE_FOLDER, folder / "manifest.json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


@needs_node
def test_every_transform_and_dtype_is_decoded_bit_for_bit(tmp_path):
    tiles = forced_tiles() + chosen_tiles()
    found = decode(tmp_path, tiles)
    wrong = {t.name: f for t, f in zip(tiles, found, strict=True) if f != t.digest}
    assert not wrong


def test_the_tiles_above_use_every_token_of_the_format():
    text = (Path(__file__).parents[1] / "docs" / "format.md").read_text()
    section = text.split("### 4.3 ")[1].split("### 4.4 ")[0]
    rows = [
        line.split("|")[1] for line in section.splitlines() if line.startswith("| `")
    ]
    tokens = {token for row in rows for token in re.findall(r"`(\w+)`", row)}
    assert len(tokens) > 15
    used = b" ".join(t.data[:4096] for t in forced_tiles() + chosen_tiles()).decode(
        "latin-1"
    )
    plans = re.findall(r"GEOSPATIAL_TRANSFORMS=([ -~]*)", used)
    names = {word.split(":")[0] for plan in plans for word in plan.split()}
    assert tokens <= names


def damaged(old, new):
    """A tile whose comments or bytes say something else."""
    tile = forced("damaged", classes(), Plan(predictor="up", packed=True))
    assert old in tile.data
    return type(tile)(
        tile.name, tile.data.replace(old, new), tile.shape, tile.dtype, ""
    )


@needs_node
def test_damage_is_an_error_with_a_reason(tmp_path):
    tile = forced("whole", classes(), Plan(predictor="up"))
    cases = {
        'transform "magic" is unknown': damaged(b"=up packed", b"=magic pack"[:10]),
        "is out of order": damaged(b"=up packed", b"=packed up"),
        "expected uint8": damaged(b"DTYPE=uint8", b"DTYPE=int8 "),
        "packed by method 9": damaged(b"FXRS\x02", b"FXRS\x09"),
        "do not": damaged(b"HEIGHT=156", b"HEIGHT=157"),
        "of FLAC frames": type(tile)("", tile.data[:-200], tile.shape, tile.dtype, ""),
    }
    found = decode(tmp_path, cases.values())
    assert found
    for text in found:
        assert re.match("FormatError: ", text), found


def test_vendored_files_are_those_that_were_published():
    folder = PAGE_FOLDER / "vendor"
    told = dict(
        reversed(line.split())
        for line in (folder / "PROVENANCE.txt").read_text().splitlines()
        if re.match("[0-9a-f]{64} ", line)
    )
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "PROVENANCE.txt"
    }
    assert found == told
    assert len(found) == 9
