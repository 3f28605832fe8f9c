"""Which extra of this package brings what a protocol needs.

Strategy: an import that fails is told as the command that mends it.
"""

from __future__ import annotations

from typing import Final

__all__ = ["what_to_install"]

EXTRAS: Final = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
}


def what_to_install(url: str, error: ImportError) -> str:
    """Say what is to be installed for a URL, or a chain of them.

    Examples
    --------
    >>> what_to_install("simplecache::s3://bucket/a.flac", ImportError())
    's3:// needs: pip install "flac-xarray[s3]"'
    """
    for link in url.split("::"):
        protocol = link.partition("://")[0]
        if protocol in EXTRAS:
            extra = EXTRAS[protocol]
            return f'{protocol}:// needs: pip install "flac-xarray[{extra}]"'
    return f"its protocol needs another package: {error}"
