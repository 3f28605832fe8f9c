"""What may be shown of a URL, an option or another library's error.

Strategy: a name is built from the parts of a URL that are safe, never by removing
known secrets from the whole: user, password, query (signatures, tokens) and fragment
go. Text of other libraries is shown only when none of the secrets occurs in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

__all__ = ["Secrets", "display_name", "split_chain"]

SECRET_KEY = re.compile(
    r"key|secret|token|pass|auth|cred|header|cookie|sas|sig|conn", re.IGNORECASE
)
CHAIN = re.compile(r"::(?![^\[\]/]*\])")
SHORTEST_SECRET = 4
AZURE = frozenset({"abfs", "abfss", "az", "wasb", "wasbs"})
"""Schemes with a container where others have a user."""
HOLDERS = ("token", "signature")
"""Attributes of credential objects, google.auth's and azure.core's."""
WAYS = frozenset({"anon", "browser", "cache", "cloud", "google_default"})
"""Ways in which gcsfs finds a token, given as one."""


def display_name(url: str) -> str:
    """Give a URL, chained or not, without credentials, query and fragment.

    Examples
    --------
    >>> display_name("https://me:pw@host:81/a b.flac?X-Amz-Signature=c0ffee#x")
    'https://host:81/a b.flac'
    >>> display_name("zip://a.flac::https://me:pw@host/b.zip?sig=1")
    'zip://a.flac::https://host/b.zip'
    >>> display_name("abfs://container@account.dfs.core.windows.net/a.flac?sig=1")
    'abfs://container@account.dfs.core.windows.net/a.flac'
    >>> display_name("/data/what?.flac")
    '/data/what?.flac'
    """
    return "::".join(_display_link(link) for link in split_chain(url))


def split_chain(url: str) -> list[str]:
    """Split a chained URL; the colons of an IPv6 address do not count.

    Examples
    --------
    >>> split_chain("simplecache::http://[::1]/x")
    ['simplecache', 'http://[::1]/x']
    """
    return CHAIN.split(url)


def _display_link(link: str) -> str:
    if "://" not in link:
        return link
    try:
        parts = urlsplit(link)
    except ValueError:  # not a URL after all, e.g. a broken IPv6 address
        return link.partition("://")[0] + "://..."
    host = parts.netloc.removeprefix(f"{_user_of(parts)}@")
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _user_of(parts: SplitResult) -> str:
    """Give user and password; Azure's ``container@account`` is none."""
    user = parts.netloc.rpartition("@")[0]
    return "" if parts.scheme in AZURE and ":" not in user else user


class Secrets:
    """The strings of one source that must never be shown.

    Parameters
    ----------
    url
        The full URL.
    options
        The storage options; values under keys that sound secret count.

    Examples
    --------
    >>> secrets = Secrets("https://me:hunter2@host/x", {"key": "AKIA0"})
    >>> secrets.clean("no entry for AKIA0 at host")
    'no entry for *** at host'
    >>> secrets
    Secrets(...)
    """

    def __init__(self, url: str, options: Mapping[str, object] | None = None) -> None:
        found = {*_of_url(url), *_of_options(options or {}, secret=False)}
        # The longest first: a query may contain another secret.
        self._strings = sorted(
            (text for text in found if len(text) >= SHORTEST_SECRET),
            key=len,
            reverse=True,
        )

    def __repr__(self) -> str:
        return "Secrets(...)"

    def clean(self, text: str) -> str:
        """Give `text` with every secret replaced by ``***``."""
        for secret in self._strings:
            text = text.replace(secret, "***")
        return text

    def presentable(self, error: BaseException) -> BaseException | None:
        """Give `error` as a cause to chain, or None when it tells a secret."""
        seen: BaseException | None = error
        while seen is not None:
            if self.clean(text := f"{seen} {seen!r}") != text:
                return None
            seen = seen.__cause__ or seen.__context__
        return error


def _of_url(url: str) -> Iterator[str]:
    for link in split_chain(url):
        if "://" not in link:
            continue
        try:
            parts = urlsplit(link)
        except ValueError:
            yield link
            continue
        userinfo = _user_of(parts)
        for text in (*userinfo.split(":", 1), parts.query, parts.fragment):
            yield text
            yield unquote(text)
        for pair in parts.query.split("&"):
            yield pair.partition("=")[2]
            yield unquote(pair.partition("=")[2])


def _of_options(value: object, *, secret: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            known = secret or bool(SECRET_KEY.search(str(key)))
            yield from _of_options(inner, secret=known)
    elif isinstance(value, (tuple, list)):  # aiohttp.BasicAuth is a tuple
        for inner in value:
            yield from _of_options(inner, secret=secret)
    elif isinstance(value, str) and secret and value not in WAYS:
        yield value
        # "Authorization: Bearer abc": the part after the scheme is secret alone.
        yield value.rpartition(" ")[2]
        yield from _of_fields(value)
    elif secret:
        for holder in HOLDERS:
            if isinstance(held := getattr(value, holder, None), str):
                yield held


def _of_fields(text: str) -> Iterator[str]:
    """Give the secret parts of Azure's connection strings and access signatures."""
    for field in re.split("[;&?]", text):
        key, _, value = field.partition("=")
        if SECRET_KEY.search(key):
            yield value
            yield unquote(value)
