"""Make the picture of docs/viewer.md: ``python -m tests.viewer_picture``."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from flac_xarray import convert_to_flac, scenes
from flac_xarray.sources import open_source
from flac_xarray.viewer import ViewServer
from tests.chromium import Chromium

TARGET = Path(__file__).parents[1] / "docs" / "images" / "viewer.jpg"
SCRIPT = Path(__file__).with_name("viewer_page.js").read_text()


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        ViewServer() as server,
        Chromium() as browser,
    ):
        source, target = Path(folder) / "scene.tif", Path(folder) / "scene.flac"
        scenes.multispectral_scene(2048, 2048).write_geotiff(source)
        options = {"overviews": (2, 4), "resampling": "average"}
        convert_to_flac(source, target, tile_size=256, **options)
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            width=1280,
            height=880,
            deviceScaleFactor=1,
            mobile=False,
        )
        with open_source(target) as data:
            browser.open(server.show(data, target.name))
            browser.evaluate(SCRIPT)
            browser.evaluate("flacViewer.camera.zoom(2.2, {x: 300, y: 560})")
            browser.evaluate("flacViewer.map.redraw(), asked.settle()")
            x, y = browser.evaluate("asked.pixel(1100, 700)")
            browser.click(x, y)
            browser.evaluate("asked.until(() => document.getElementById('play'))")
            browser.click(*browser.evaluate("asked.middle('#play')"))
            browser.evaluate("asked.until(() => asked.text('#sound'))")
            browser.evaluate("document.querySelector('input[type=checkbox]').click()")
            browser.evaluate("document.getElementById('panel').scrollTop = 0")
            browser.mouse("mouseMoved", x + 60, y - 20)
            time.sleep(0.5)
            TARGET.write_bytes(browser.screenshot("jpeg", 82))


if __name__ == "__main__":
    main()
