"""The page's files, and a copy of them.

Strategy: whatever lies beside this module and is no Python belongs to the page.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

__all__ = ["PAGE_FOLDER", "copy_page", "page_query"]

PAGE_FOLDER: Final = Path(__file__).resolve().parent
"""Where the page's files are."""


def copy_page(folder: str | os.PathLike[str]) -> Path:
    """Copy the page into a folder, to be served beside the data.

    Parameters
    ----------
    folder
        Made if it is not there; files of the same names are replaced.

    Returns
    -------
    Path
        The copy of ``index.html``. Its address takes ``?file=`` and the address of a
        FLAC raster, relative to the page.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     copy_page(folder).name
    'index.html'
    """
    target = Path(folder)
    skipped = shutil.ignore_patterns("*.py", "__pycache__")
    shutil.copytree(PAGE_FOLDER, target, ignore=skipped, dirs_exist_ok=True)
    return target / "index.html"


def page_query(file: str, name: str | None = None) -> str:
    """Give the query that makes the page open a file.

    Examples
    --------
    >>> page_query("../a b.flac")
    '?file=..%2Fa+b.flac'
    """
    return "?" + urlencode({"file": file} | ({"name": name} if name else {}))
