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


def test_the_tiles_above_use_every_token_that_the_page_knows():
    """One that the page does not know is refused by it, see below."""
    plan = (PAGE_FOLDER / "plan.js").read_text()
    lists = re.findall(r"const (?:ORDER|PREDICTORS) = \[(.*?)\]", plan, re.DOTALL)
    known = {name for text in lists for name in re.findall(r'"(\w+)"', text)}
    known.remove("predictor")
    text = (Path(__file__).parents[1] / "docs" / "format.md").read_text()
    section = text.split("### 4.3 ")[1].split("### 4.4 ")[0]
    rows = [r.split("|")[1] for r in section.splitlines() if r.startswith("| `")]
    assert known <= {token for row in rows for token in re.findall(r"`(\w+)`", row)}
    used = b" ".join(t.data[:4096] for t in forced_tiles() + chosen_tiles())
    plans = re.findall(r"GEOSPATIAL_TRANSFORMS=([ -~]*)", used.decode("latin-1"))
    assert known == {word.split(":")[0] for plan in plans for word in plan.split()}


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
    cut = type(tile)("cut", tile.data[:-200], tile.shape, tile.dtype, "")
    cases = {
        'transform "magic" is unknown': damaged(b"=up packed", b"=magic pac"),
        'transform "up" of "packed up" is out of order': damaged(
            b"=up packed", b"=packed up"
        ),
        "the tile is int16": damaged(b"DTYPE=uint8", b"DTYPE=int16"),
        "packed by method 9": damaged(b"FXRS\x02", b"FXRS\x09"),
        "the tile is uint8 [1,157,110]": damaged(b"HEIGHT=156", b"HEIGHT=157"),
        "samples decode": cut,
    }
    found = decode(tmp_path, cases.values())
    for expected, text in zip(cases, found, strict=True):
        assert text.startswith("FormatError: ")
        assert expected in text


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
