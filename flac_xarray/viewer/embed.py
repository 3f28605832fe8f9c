"""The viewer inside a notebook: an iframe that IPython shows by itself."""

from __future__ import annotations

import html
from dataclasses import dataclass

__all__ = ["View", "iframe"]


@dataclass(frozen=True, slots=True)
class View:
    """A page that shows a raster.

    Examples
    --------
    >>> View("http://127.0.0.1:8000/?file=data%2Fa.flac", height=300)._repr_html_()[:44]
    '<iframe src="http://127.0.0.1:8000/?file=dat'
    """

    url: str
    """Its address, on this machine, for as long as this process runs."""
    width: str = "100%"
    """Of the iframe, as CSS has it."""
    height: int = 480
    """Of the iframe, in pixels."""

    def _repr_html_(self) -> str:
        return iframe(self.url, self.width, self.height)


def iframe(url: str, width: str, height: int) -> str:
    """Give the HTML of an iframe."""
    style = f"border:0;border-radius:8px;width:{width};height:{height}px"
    return f'<iframe src="{html.escape(url)}" style="{html.escape(style)}"></iframe>'
