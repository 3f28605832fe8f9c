"""GeoTIFF and every other raster that rasterio reads, to FLAC and back.

Strategy: rasterio is the only door to GDAL. `describe` turns what rasterio reports into
a `Header`, `to_flac` streams pixels into the writer, `to_geotiff` streams them back and
restores what rasterio reported; `structure` knows how a GeoTIFF is laid out on disk.
What survives, and what cannot, is listed in docs/geotiff.md.
"""

from flac_xarray.geotiff.describe import header_from_dataset
from flac_xarray.geotiff.gdal import open_dataset, translated_errors
from flac_xarray.geotiff.to_flac import convert_to_flac
from flac_xarray.geotiff.to_geotiff import convert_to_geotiff
from flac_xarray.geotiff.to_legacy import convert_to_legacy

__all__ = [
    "convert_to_flac",
    "convert_to_geotiff",
    "convert_to_legacy",
    "header_from_dataset",
    "open_dataset",
    "translated_errors",
]
