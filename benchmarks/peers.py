"""All codecs under test: ours, and those that users would otherwise choose.

A peer encodes a whole raster, axis order (band, row, col), into memory and decodes it
into a new array, through the library its users use. All get the same tile size. What
a peer cannot hold it refuses in `holds`; its libraries are imported only when it
works, so that one missing library costs one peer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.array_peers import Pcodec, Zarr
from benchmarks.base import Encoded, Peer, Pixels, Raster
from benchmarks.gdal_peers import Cog, Jpeg2000
from benchmarks.image_peers import JpegLs, JpegXl


@dataclass(frozen=True, slots=True)
class Ours:
    """The format of this project: a whole file in memory, by its writer and reader."""

    name: str = "flac_xarray"
    effort: int | None = None
    requires: tuple[str, ...] = ("flac_xarray",)

    def holds(self, raster: Raster) -> bool:
        """Leave it to the writer."""
        del raster
        return True

    def encode(self, raster: Raster, tile: int, threads: int) -> Encoded:
        """Write a file as `convert` does, with CRS, transform and nodata."""
        from flac_xarray.array_writer import array_header
        from flac_xarray.grid import suitable_bands
        from flac_xarray.sinks import MemorySink
        from flac_xarray.tile_encoder import DEFAULT_EFFORT
        from flac_xarray.writer import FlacRasterWriter

        crs = raster.profile.get("crs")
        transform = raster.profile.get("transform")
        shape = raster.array.shape
        depth = suitable_bands(shape, (tile, tile), is_photo=raster.is_photo)
        header = array_header(
            raster.array,
            tile_size=(depth, tile, tile),
            nodata=raster.nodata,
            crs=None if crs is None else crs.to_string(),
            transform=None if transform is None else tuple(transform)[:6],
        )
        info = replace(header.arrays[0], dtype=raster.dtype)
        header = replace(header, arrays=(info,))
        effort = DEFAULT_EFFORT if self.effort is None else self.effort
        sink = MemorySink()
        with FlacRasterWriter(sink, header, effort=effort, threads=threads) as writer:
            writer.write(raster.array)
        return Encoded(len(sink.value), sink.value)

    def decode(self, encoded: Encoded, raster: Raster, threads: int) -> Pixels:
        """Read all pixels."""
        from flac_xarray.reader import FlacRaster

        del raster
        with FlacRaster.open(encoded.payload, threads=threads) as opened:
            return opened.read()


OURS = Ours()

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        OURS,
        Cog("COG DEFLATE", "DEFLATE", predictor=True),
        Cog("COG DEFLATE no predictor", "DEFLATE"),
        Cog("COG ZSTD", "ZSTD", predictor=True),
        Cog("COG ZSTD 22", "ZSTD", predictor=True, options={"level": "22"}),
        Cog("COG ZSTD 22 no predictor", "ZSTD", options={"level": "22"}),
        Cog("COG LZW", "LZW", predictor=True),
        Cog("COG LERC_ZSTD", "LERC_ZSTD", options={"max_z_error": "0"}),
        Cog("COG WEBP lossless", "WEBP", options={"quality": "100"}),
        Zarr("Zarr zstd"),
        Zarr("Zarr blosc", blosc=True),
        Pcodec(),
        Jpeg2000(),
        JpegXl(),
        JpegLs(),
    )
}
"""All codecs by name, in the order of the table; ours comes first."""
