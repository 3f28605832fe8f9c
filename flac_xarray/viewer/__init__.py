"""The web viewer: a page that reads and decodes files in the browser, and its server.

Strategy: the page is static (HTML and ES modules beside this file), so it can be copied
to any web server. For files that a browser cannot reach (local ones, buckets, servers
of other origins) a server on the loopback interface relays ranges of them.
"""

from flac_xarray.viewer.embed import View, iframe
from flac_xarray.viewer.page import copy_page
from flac_xarray.viewer.server import ViewServer, shared_server

__all__ = ["View", "ViewServer", "copy_page", "iframe", "shared_server"]
