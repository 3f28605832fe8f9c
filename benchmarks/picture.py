"""Draw the README's picture: a window of a remote scene, and what was fetched for it.

``python -m benchmarks.picture docs/images/window.jpg [RASTER]``

The scene is the demo's seeded one (or the first three bands of RASTER); tiles, bytes
and requests are those of a real read through a local server.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

from flac_xarray import FlacRaster, Window, convert_to_flac
from flac_xarray.range_server import RangeServer
from flac_xarray.scenes import multispectral_scene

TILE = 256
WINDOW = Window(200, 900, 480, 640)


def main() -> None:
    """Write the picture."""
    target, *sources = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "scene.tif")
        if sources:
            source = Path(sources[0])
        else:
            multispectral_scene().write_geotiff(source)
        path = Path(folder, "scene.flac")
        convert_to_flac(source, path, tile_size=TILE)
        with RangeServer(folder) as server:
            url = f"{server.url}/scene.flac"
            with FlacRaster.open(url) as raster:
                opened = raster.stats
                pixels = raster.read(WINDOW, bands=[0, 1, 2])
                stats = raster.stats
                plan = raster.plan((slice(0, 3), *WINDOW.slices))
                scene = FlacRaster.open(path).read(bands=[0, 1, 2])
        total = path.stat().st_size
    moved = stats.nbytes - opened.nbytes
    texts = (
        f"tiles fetched; {total / 1e6:.1f} MB file, opened with 1 request",
        f"window: {stats.requests - opened.requests} requests, {moved / 1e6:.2f} MB",
    )
    draw(target, scene, pixels, {cut.index[1:] for cut in plan.cuts}, texts)


def stretched(pixels: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Three bands, red first, as an image."""
    scaled = (np.moveaxis(pixels[::-1], 0, -1) - low) / (high - low)
    return np.clip(scaled, 0, 1) ** 0.8


def draw(
    target: str,
    scene: np.ndarray,
    pixels: np.ndarray,
    tiles: set[tuple[int, int]],
    texts: tuple[str, str],
) -> None:
    """Draw the scene with its tiles on the left, the window on the right."""
    low, high = (np.percentile(scene[::-1], q, axis=(1, 2)) for q in (1, 99))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.9), dpi=110)
    left.imshow(stretched(scene, low, high))
    height, width = scene.shape[1:]
    for row in range(0, height, TILE):
        for col in range(0, width, TILE):
            is_hit = (row // TILE, col // TILE) in tiles
            left.add_patch(Rectangle(
                (col, row), TILE, TILE, fill=is_hit, alpha=0.45 if is_hit else 0.35,
                facecolor="gold", edgecolor="white", linewidth=0.7,
            ))  # fmt: skip
    rows, cols = WINDOW.slices
    left.add_patch(Rectangle((cols.start, rows.start), WINDOW.width, WINDOW.height,
                             fill=False, edgecolor="red", linewidth=2))  # fmt: skip
    left.set_title(texts[0], fontsize=9)
    right.imshow(stretched(pixels, low, high))
    right.set_title(texts[1], fontsize=9)
    for axes in (left, right):
        axes.set_xticks([])
        axes.set_yticks([])
    figure.tight_layout()
    figure.savefig(target, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main()
