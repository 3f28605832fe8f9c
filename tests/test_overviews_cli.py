"""Overviews on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.enums import Resampling

from flac_xarray.cli import main
from tests.test_overviews_geotiff import hole, levels_of, make, smooth

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]


def run(*words, code=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


def told(*words, code=0):
    return json.loads(run(*words, "--json", code=code))


@pytest.fixture
def source(tmp_path):
    return make(tmp_path / "a.tif", smooth(2, "uint8"), (2, 4), mask=hole())


def convert(source, target, *options):
    run(
        "convert",
        source,
        "-o",
        target,
        "--tile-size",
        64,
        "--effort",
        0,
        "-q",
        *options,
    )
    return target


def test_convert_info_validate_and_back(source, tmp_path):
    flac = convert(source, tmp_path / "a.flac")
    arrays = told("info", flac)["arrays"]
    assert [(a["name"], a["level"]) for a in arrays] == [
        (name, level) for level in (0, 1, 2) for name in ("band_data", "mask")
    ]
    report = told("validate", flac, "--full")
    assert report["valid"]
    assert report["tiles_checked"] == sum(a["tiles"] - a["empty_tiles"] for a in arrays)
    back = convert(flac, tmp_path / "b.tif")
    assert told("compare", source, back, "--strict")["equal"]
    assert len(told("compare", source, back)["overviews"]) == 2 * 3
    assert "overview 1: equal" in run("compare", flac, source)
    without = convert(flac, tmp_path / "c.tif", "--overviews", "none")
    assert levels_of(without) == []


def test_overviews_are_made(source, tmp_path):
    plain = tmp_path / "plain.tif"
    make(plain, smooth(2, "uint8"), mask=hole())
    ours = convert(
        plain, tmp_path / "a.flac", "--overviews", "2,4", "--resampling", "average"
    )
    assert told("compare", source, ours, "--strict")["equal"]
    auto = convert(
        plain, tmp_path / "b.flac", "--overviews", "auto", "--resampling", "mode"
    )
    assert [a["shape"][-2:] for a in told("info", auto)["arrays"][::2]] == [
        [237, 190], [119, 95], [60, 48],
    ]  # fmt: skip


def test_compare_tells_of_other_overviews(source, tmp_path):
    other = tmp_path / "b.tif"
    make(other, smooth(2, "uint8"), (2,), method="nearest", mask=hole())
    found = told("compare", source, other)
    assert found["equal"]
    assert found["differences"]["overviews"] == [[[119, 95], [60, 48]], [[119, 95]]]
    assert {b["overview_level"] for b in found["overviews"]} == {0}
    assert not all(b["equal"] for b in found["overviews"])
    text = run("compare", source, other, "--strict", code=1)
    assert "overview 0: DIFFERENT" in text
    assert "pixels equal, overviews different" in text


def test_extract_takes_a_level(source, tmp_path):
    flac = convert(source, tmp_path / "a.flac")
    pixels, mask = levels_of(source)[0]
    out = tmp_path / "part.tif"
    run("extract", flac, "--overview-level", 0, "--window", "10,20,30,40", "-o", out)
    with rasterio.open(out) as dataset:
        np.testing.assert_array_equal(dataset.read(), pixels[:, 20:60, 10:40])
        np.testing.assert_array_equal(dataset.dataset_mask(), mask[20:60, 10:40])
    run("extract", flac, "--overview-level", 1, "--last", "-o", out, "--overwrite")
    with rasterio.open(out) as dataset:
        assert dataset.shape == (60, 48)
    failed = run(
        "extract",
        flac,
        "--overview-level",
        2,
        "--last",
        "-o",
        out,
        "--overwrite",
        code=1,
    )
    assert "no overview 2: the raster has 2" in failed


def test_wrong_words(source, tmp_path):
    target = tmp_path / "a.flac"
    for words, code, match in (
        (("--overviews", "4,2"), 2, "factors from 2 on that ascend"),
        (("--overviews", "all"), 2, "found 'all'"),
        (("--resampling", "median"), 2, "median"),
        (("--overviews", "2,4000,8000"), 1, "too many for 237 rows"),
    ):
        assert match in run("convert", source, "-o", target, *words, code=code)
        assert not target.exists()
    flac = convert(source, target)
    failed = run(
        "convert", flac, "-o", tmp_path / "b.tif", "--overviews", "auto", code=2
    )
    assert "a GeoTIFF takes those of the FLAC raster" in failed


def test_methods_are_rasterio_s():
    from flac_xarray.resampling import METHODS

    assert set(METHODS) <= {method.name for method in Resampling}
