"""The documentation site: ``python -m sphinx -W --keep-going docs site``.

Strategy: the pages are Markdown that reads as well in the repository as on the site.
So their links name files of the repository; those that lie outside this folder are
pages here under another name. Nothing is fetched from the network.
"""

from __future__ import annotations

import os
from pathlib import Path

import flac_xarray

project = "flac_xarray"
author = "the flac_xarray authors"
version = release = flac_xarray.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"flac_xarray {release}"
html_show_sourcelink = False

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_class_signature = "mixed"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False

OUTSIDE = {
    "index": "README.md",
    "changes": "CHANGELOG.md",
    "benchmarks": "benchmarks/README.md",
}
"""Pages that are a file outside this folder, with what the page itself has behind."""
ROOT = Path(__file__).resolve().parent.parent


def _read(app: object, docname: str, source: list[str]) -> None:
    """Put outside files where they belong, and make links lead to pages."""
    del app
    folder = ROOT / "docs" / Path(docname).parent
    text = source[0]
    if docname in OUTSIDE:
        outside = ROOT / OUTSIDE[docname]
        text = _relinked(outside.read_text(encoding="utf-8"), outside.parent, folder)
        text = f"{text}\n{source[0]}"
    source[0] = _relinked(text, folder, folder)


def _relinked(text: str, start: Path, folder: Path) -> str:
    """Turn targets relative to `start` into targets relative to `folder`."""
    pieces = text.split("](")
    for k, piece in enumerate(pieces[1:], start=1):
        target, closing, rest = piece.partition(")")
        path, mark, anchor = target.partition("#")
        if not path or ":" in path:
            continue
        found = (start / path).resolve()
        for page, file in OUTSIDE.items():
            if found == ROOT / file:
                found = ROOT / "docs" / f"{page}.md"
        pieces[k] = f"{os.path.relpath(found, folder)}{mark}{anchor}{closing}{rest}"
    return "](".join(pieces)


def setup(app: object) -> None:
    """Register the hook."""
    app.connect("source-read", _read)  # type: ignore[attr-defined]
