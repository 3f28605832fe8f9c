"""Runs the examples of a page as its reader would: in order, in one folder.

Strategy: the page is the program. Python blocks share one namespace, shell blocks run
line by line, and what they name is real: seeded rasters for the file names that the
documentation uses throughout, a web server for ``https://host``, an S3 API for
``s3://bucket``. A block that cannot run says why in a comment before it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from flac_xarray import convert_to_flac
from flac_xarray.cli import main
from flac_xarray.scenes import classes_scene, multispectral_scene, terrain_scene

ROOT = Path(__file__).resolve().parent.parent
RUNNABLE = ("python", "bash")
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n+)?"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MARKED = re.compile(r"<!-- (install|test) -->.*?<!-- end -->", re.DOTALL)
"""What .ci/run takes from the README."""
STANDS_FOR = {
    "xmin,ymin,xmax,ymax": "602000,5094000,606000,5096000",
    "slice(5e5, 5.1e5)": "slice(6e5, 6.05e5)",
}
"""What a page writes for the reader's own numbers, and numbers of `scene.tif`."""


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    line: int
    language: str
    text: str
    reason: str | None
    """Why it is not run."""


def pages() -> list[Path]:
    """All pages of the documentation, the README first."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """Fenced blocks of a page; the README's own tests run what lies in its markers."""
    text = page.read_text(encoding="utf-8")
    in_markers = [
        range(*match.span())
        for match in re.finditer(
            r"<!-- (install|test) -->.*?<!-- end -->", text, re.DOTALL
        )
    ]
    return [
        Block(
            text.count("\n", 0, match.start("language")) + 1,
            match["language"],
            match["text"],
            "by .ci/run"
            if any(match.start() in span for span in in_markers)
            else match["reason"],
        )
        for match in FENCE.finditer(text)
    ]


def _scene_flac(folder: Path) -> None:
    provide("scene.tif", folder)
    convert_to_flac(folder / "scene.tif", folder / "scene.flac", tile_size=256)


def _dem_flac(folder: Path) -> None:
    provide("dem.tif", folder)
    convert_to_flac(folder / "dem.tif", folder / "dem.flac", tile_size=256)


def _scene_zarr(folder: Path) -> None:
    import xarray as xr

    provide("scene.tif", folder)
    with xr.open_dataset(folder / "scene.tif", engine="rasterio") as ds:
        ds.drop_encoding().to_zarr(folder / "scene.zarr", consolidated=False)


MADE: Mapping[str, Callable[[Path], None]] = {
    "scene.tif": lambda at: multispectral_scene(768, 768).write_geotiff(
        at / "scene.tif"
    ),
    "scene.flac": _scene_flac,
    "scene.zarr": _scene_zarr,
    "dem.tif": lambda at: terrain_scene(700, 900).write_geotiff(at / "dem.tif"),
    "dem.flac": _dem_flac,
    "classes.tif": lambda at: classes_scene(600, 600).write_geotiff(at / "classes.tif"),
}
"""The files that pages take for given."""


def provide(name: str, folder: Path) -> None:
    """Make a file that pages take for given, unless it is there."""
    if not (folder / name).exists():
        MADE[name](folder)


@dataclass
class PageRun:
    """One page being run in `folder`, which is the current directory."""

    folder: Path
    replace: Mapping[str, str]
    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    given: set[str] = field(default_factory=set)

    def run(self, page: Path, block: Block) -> None:
        """Run a block; an error names the page and the line."""
        text = block.text
        for mark, meant in {**STANDS_FOR, **self.replace}.items():
            text = text.replace(mark, meant)
        for name in MADE:
            if re.search(rf"(?<![\w.]){re.escape(name)}\b", text):
                if not (self.folder / name).exists():
                    self.given.add(name)
                provide(name, self.folder)
        if block.language == "python":
            code = compile("\n" * block.line + text, str(page), "exec")
            exec(code, self.namespace)  # noqa: S102 - the page's own code
            return
        for line in commands(text):
            self.run_command(line)

    def run_command(self, line: str) -> None:
        """Run a line of shell; ours in this process, which has them imported."""
        words = shlex.split(line, comments=True)
        # A reader without the file would write it; one that a page made stays.
        for target in self.given & set(
            words[words.index("-o") :] if "-o" in words else []
        ):
            (self.folder / target).unlink()
            self.given.remove(target)
        if words[0] == "flac-raster" and not set(words) & {"|", ">", "&&"}:
            with warnings.catch_warnings():
                warnings.simplefilter("default")  # a line to the user, no error
                result = CliRunner().invoke(main, words[1:])
            assert result.exit_code == 0, f"{line}\n{result.output}{result.exception}"
            return
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],  # noqa: S607 - the reader's
            cwd=self.folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def commands(text: str) -> Iterator[str]:
    """Lines of a shell block, continued ones joined, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        if shlex.split(line, comments=True):
            yield line
