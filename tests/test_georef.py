"""Bounds, windows and tile comments, with rasterio and brute force as judges."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine as RasterioAffine
from rasterio.transform import array_bounds
from rasterio.windows import Window as RasterioWindow
from rasterio.windows import transform as window_transform

from flac_xarray.errors import FormatError, UnsupportedDataError, WindowError
from flac_xarray.georef import Gcp, Georef, tile_comments
from flac_xarray.grid import Window

# rasterio's own use of affine.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul")

HEIGHT, WIDTH = 6, 8
SIZES = st.sampled_from([0.25, 1.0, 10.0, 1 / 3, 30.5])
STARTS = st.integers(-1000, 1000).map(float)


@st.composite
def affines(draw, *, sheared=True):
    a, e = draw(SIZES), draw(SIZES) * draw(st.sampled_from([1, -1]))
    b, d = (draw(st.sampled_from([0.0, 0.125])) * sheared for _ in range(2))
    return (a, b, draw(STARTS), d, e, draw(STARTS))


@st.composite
def windows(draw):
    row, col = draw(st.integers(0, HEIGHT - 1)), draw(st.integers(0, WIDTH - 1))
    height = draw(st.integers(1, HEIGHT - row))
    return Window(row, col, height, draw(st.integers(1, WIDTH - col)))


@given(affines(sheared=False))
def test_bounds_are_rasterio_s(affine):
    left, bottom, right, top = array_bounds(HEIGHT, WIDTH, RasterioAffine(*affine))
    expected = (left, min(bottom, top), right, max(bottom, top))
    assert Georef(transform=affine).bounds(HEIGHT, WIDTH) == pytest.approx(expected)


@given(affines(), windows())
def test_a_window_s_transform_is_rasterio_s(affine, window):
    at = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
    expected = window_transform(at, RasterioAffine(*affine))
    found = Georef(transform=affine).at(window)
    assert found.affine == pytest.approx(tuple(expected)[:6])
    whole = Georef(transform=affine).bounds(HEIGHT, WIDTH, window)
    assert found.bounds(window.height, window.width) == pytest.approx(whole)


# Away from pixel edges, where rounding decides.
CORNERS = st.integers(-16, 144).map(lambda k: k / 16 + 1 / 32)


@given(affines(sheared=False), st.lists(CORNERS, min_size=4, max_size=4))
def test_a_box_takes_the_pixels_it_touches(affine, corners):
    a, _, c, _, e, f = affine
    cols, rows = sorted(corners[:2]), sorted(corners[2:])
    xs, ys = [c + a * v for v in cols], sorted(f + e * v for v in rows)
    touched = np.zeros((HEIGHT, WIDTH), bool)
    for row in range(HEIGHT):
        for col in range(WIDTH):
            touched[row, col] = (
                cols[0] < col + 1 and cols[1] > col
                and rows[0] < row + 1 and rows[1] > row
            )  # fmt: skip
    georef, box = Georef(transform=affine), (xs[0], ys[0], xs[1], ys[1])
    if not touched.any():
        with pytest.raises(WindowError, match="whose bounds are"):
            georef.window(box, HEIGHT, WIDTH)
        return
    found = np.zeros_like(touched)
    found[georef.window(box, HEIGHT, WIDTH).slices] = True
    np.testing.assert_array_equal(found, touched)


@given(affines(sheared=False), windows())
def test_the_bounds_of_a_window_give_that_window(affine, window):
    georef = Georef(transform=affine)
    bounds = georef.bounds(HEIGHT, WIDTH, window)
    assert georef.window(bounds, HEIGHT, WIDTH) == window


def test_boxes_that_are_refused():
    georef = Georef(transform=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    with pytest.raises(WindowError, match="xmin <= xmax"):
        georef.window((2, 0, 1, 1), HEIGHT, WIDTH)
    with pytest.raises(WindowError, match="xmin <= xmax"):
        georef.window((float("nan"), 0, 1, 1), HEIGHT, WIDTH)
    with pytest.raises(FormatError, match="inverted"):
        Georef(transform=(0.0,) * 6).window((0, 0, 1, 1), HEIGHT, WIDTH)


def test_gcps_and_rpcs_move_with_a_window():
    rpcs = {"LINE_OFF": "100.5 pixels", "SAMP_OFF": 7, "LINE_SCALE": "3"}
    georef = Georef(gcps=(Gcp(5.5, 6.0, 1.0, 2.0, 3.0, "a", "b"),), rpcs=rpcs)
    found = georef.at(Window(2, 4, 1, 1))
    assert found.gcps == (Gcp(3.5, 2.0, 1.0, 2.0, 3.0, "a", "b"),)
    assert found.rpcs == {"LINE_OFF": "98.5", "SAMP_OFF": "3.0", "LINE_SCALE": "3"}
    assert found.transform is None
    assert georef.at(Window(0, 0, 1, 1)) == georef


def test_an_overview_has_larger_pixels_and_its_gcps():
    georef = Georef("EPSG:4326", (1.0, 0.5, 9.0, 0.25, -1.0, 8.0), (Gcp(4, 6, 1, 2),))
    found = georef.scaled(3.0, 2.0)
    assert found.transform == (3.0, 1.0, 9.0, 0.75, -2.0, 8.0)
    assert found.gcps == (Gcp(2.0, 2.0, 1, 2),)
    assert georef.scaled(1.0, 1.0) == georef


@given(
    st.builds(
        Georef,
        st.none() | st.just("EPSG:32618"),
        st.none() | affines(),
        st.lists(
            st.builds(Gcp, *[st.floats(-1e9, 1e9)] * 4, st.none() | SIZES, st.text()),
            max_size=3,
        ).map(tuple),
        st.none() | st.just("EPSG:4326"),
        st.none() | st.just({"LINE_OFF": "1"}),
    )
)
def test_json_round_trip(georef):
    text = json.dumps(georef.to_json() | {"other": 1})
    rest = json.loads(text)
    found = Georef.pop_json(rest)
    assert rest == {"other": 1}
    assert found.gcps == georef.gcps
    assert (found.crs, found.transform) == (georef.crs, georef.transform)
    assert found.rpcs == georef.rpcs
    assert found.gcps_crs == (georef.gcps_crs if georef.gcps else None)


@pytest.mark.parametrize(
    "bad",
    [
        {"crs": 4326},
        {"transform": [1, 2, 3]},
        {"transform": ["a"] * 6},
        {"transform": [float("inf")] * 6},
        {"gcps": {"points": [[1, 2, 3, 4, "high"]]}},
        {"gcps": {"points": [[1, 2, 3, 4, None, 5]]}},
        {"gcps": {"points": [[1, 2]]}},
        {"gcps": {"crs": 7, "points": []}},
        {"gcps": [1]},
        {"rpcs": []},
    ],
    ids=str,
)
def test_json_that_does_not_parse(bad):
    with pytest.raises(FormatError, match="georeference"):
        Georef.pop_json(dict(bad))


def test_comments_of_a_tile_are_the_seed_s():
    georef = Georef("EPSG:32618", (10.0, 0.0, 5e5, 0.0, -10.0, 4e6))
    comments = tile_comments(
        georef, shape=(3, 4, 5), dtype="int16", nodata=-1, window=Window(2, 1, 4, 5)
    )
    assert comments == {
        "GEOSPATIAL_CRS": "EPSG:32618",
        "GEOSPATIAL_WIDTH": "5",
        "GEOSPATIAL_HEIGHT": "4",
        "GEOSPATIAL_COUNT": "3",
        "GEOSPATIAL_DTYPE": "int16",
        "GEOSPATIAL_NODATA": "-1",
        "GEOSPATIAL_TRANSFORM": "[10,0,500010,0,-10,3999980]",
        "GEOSPATIAL_BOUNDS": "[500010,3999940,500060,3999980]",
    }
    bare = tile_comments(
        Georef(), shape=(4, 5), dtype="int16", nodata=None, window=Window(0, 0, 4, 5)
    )
    assert not {"GEOSPATIAL_CRS", "GEOSPATIAL_NODATA"} & bare.keys()


@pytest.mark.parametrize(
    "crs",
    [
        "+init=epsg:4326",
        "+proj=merc +nadgrids=@null +to_meter=.3048/1",
        'ENGCRS["a",REMARK["https://doi.org/1"],ID["b",1,CITATION["/c"],URI["/d"]]]',
        None,
    ],
)
def test_texts_that_name_no_file_are_a_crs(crs):
    assert Georef(crs).crs == crs


def test_a_crs_that_names_a_file_is_not_written():
    with pytest.raises(UnsupportedDataError, match="names a file"):
        Georef("+proj=longlat +nadgrids=./grid")
