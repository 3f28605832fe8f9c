"""`view`: the web viewer for a path or a URL, or a copy of its page.

Strategy: `flac_xarray.viewer` serves the page and relays the file; here the browser is
opened and the command waits until it is interrupted.
"""

from __future__ import annotations

import contextlib
import threading
import webbrowser
from pathlib import Path
from typing import Any

import click

from flac_xarray.cli.output import shown
from flac_xarray.cli.params import storage_option

__all__ = ["view"]


@click.command()
@click.argument("path", required=False)
@click.option(
    "--no-browser", is_flag=True, help="Print the address, and open no browser."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of the loopback interface; a free one by default.",
)
@click.option(
    "--direct",
    is_flag=True,
    help="Let the browser read the URL by itself: its server must allow other origins.",
)
@click.option(
    "--copy-page",
    type=click.Path(file_okay=False, path_type=Path),
    help="Copy the static page into this folder, to be put beside data anywhere.",
)
@storage_option
def view(
    *,
    path: str | None,
    no_browser: bool,
    port: int,
    direct: bool,
    copy_page: Path | None,
    storage_options: dict[str, Any],
) -> None:
    """Show a FLAC raster in the web browser, until Ctrl-C.

    The browser reads header and tiles by range requests and decodes them by itself;
    this command serves the page, and relays the file, on this machine only.
    """
    from flac_xarray import viewer

    if copy_page is not None:
        click.echo(viewer.copy_page(copy_page))
    if path is None:
        if copy_page is None:
            msg = "PATH is missing: give a file or a URL, or --copy-page FOLDER"
            raise click.UsageError(msg)
        return
    if direct and not path.startswith(("http://", "https://")):
        msg = "--direct is for http:// and https:// addresses"
        raise click.UsageError(msg)
    with contextlib.ExitStack() as stack:
        source = None
        if not direct:
            from flac_xarray.sources import open_source

            source = open_source(path, storage_options)
            stack.callback(source.close)
        server = stack.enter_context(viewer.ViewServer(port))
        url = server.show(source, shown(path)) if source else server.show_url(path)
        click.echo(url)
        if not no_browser and not webbrowser.open(url):
            click.echo("No browser was found: open this address in one.", err=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
