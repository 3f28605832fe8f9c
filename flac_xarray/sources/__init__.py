"""Where bytes come from: files, memory, web servers and object stores.

Strategy: every source answers the same two questions, "the first bytes, please" and
"these byte ranges, please", and either gives exactly the bytes that the file holds or
raises `SourceError`; never fewer, never those of another version of the file where the
server tells versions apart. A list of ranges is planned by `flac_xarray.ranges`,
fetched concurrently and handed over as it arrives, with bounded memory. Sources pickle,
survive a fork, may be used from many threads, and never show credentials.

`open_source` chooses the class. Importing this package imports no network library.
"""

from flac_xarray.sources.azure_source import AzureSource
from flac_xarray.sources.file_source import FileSource
from flac_xarray.sources.fsspec_source import FsspecSource
from flac_xarray.sources.gcs_source import GcsSource
from flac_xarray.sources.http_source import HttpSource
from flac_xarray.sources.memory_source import FileObjectSource, MemorySource
from flac_xarray.sources.opening import open_source
from flac_xarray.sources.planned import PlannedSource
from flac_xarray.sources.protocol import (
    Counters,
    FetchLimits,
    FetchStats,
    Prefix,
    Source,
)
from flac_xarray.sources.retrying import SourceNotFoundError
from flac_xarray.sources.s3_source import S3Source

__all__ = [
    "AzureSource",
    "Counters",
    "FetchLimits",
    "FetchStats",
    "FileObjectSource",
    "FileSource",
    "FsspecSource",
    "GcsSource",
    "HttpSource",
    "MemorySource",
    "PlannedSource",
    "Prefix",
    "S3Source",
    "Source",
    "SourceNotFoundError",
    "open_source",
]
