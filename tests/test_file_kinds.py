"""What an error says of a file that is not ours, made by those whose kind it is."""

from __future__ import annotations

import gzip
import zipfile

import numpy as np
import pytest
import rasterio

from flac_xarray import FlacRaster
from flac_xarray.errors import NotFlacRasterError

PIXELS = np.zeros((1, 16, 16), "uint8")


def raster(driver, path, **options):
    with rasterio.open(
        path, "w", driver=driver, count=1, height=16, width=16, dtype="uint8", **options
    ) as out:
        out.write(PIXELS)


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")


MADE = {
    "a TIFF": lambda path: raster("GTiff", path),
    "a BigTIFF": lambda path: raster("GTiff", path, BIGTIFF="YES"),
    "a PNG": lambda path: raster("PNG", path),
    "a JPEG;": lambda path: raster("JPEG", path),
    "a zip archive": zipped,
    "compressed with gzip": lambda path: path.write_bytes(gzip.compress(b"abc")),
    "is the address right": lambda path: path.write_text("\n<!DOCTYPE html><html>"),
    "empty": lambda path: path.write_bytes(b""),
    "begins with b'\\x01\\x02": lambda path: path.write_bytes(b"\1\2" * 99),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("said", MADE)
def test_another_kind_of_file_is_named(said, tmp_path):
    path = tmp_path / "a.flac"
    MADE[said](path)
    with pytest.raises(NotFlacRasterError) as caught:
        FlacRaster.open(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
