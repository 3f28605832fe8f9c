"""HTTP sources against a server with faults, and against nginx."""

import ssl
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from email.utils import formatdate

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flac_xarray.errors import (
    RangeNotSupportedError,
    SourceChangedError,
    SourceError,
)
from flac_xarray.range_server import parse_range
from flac_xarray.ranges import ByteRange
from flac_xarray.sources import SourceNotFoundError, open_source
from flac_xarray.sources.http_answer import AnswerHead
from flac_xarray.sources.retrying import TransientError
from tests.servers import (
    STALL_SECONDS,
    START_SECONDS,
    Fault,
    Redirect,
    Reset,
    Rewrite,
    ShortBody,
    Stall,
    Status,
    Together,
    Undelimited,
    ignore_range,
    unknown_length,
)

THREE = [ByteRange(0, 1000), ByteRange(5000, 6000), ByteRange(90_000, 99_000)]


def agrees(source, payload, ranges=THREE):
    found = dict(source.read_ranges(ranges))
    return [found[k] for k in range(len(ranges))] == [
        payload[r.start : r.stop] for r in ranges
    ]


class TestRequests:
    def test_opening_is_one_get(self, fault_server, payload):
        source = open_source(fault_server.url_of("a.flac"))
        assert not fault_server.seen
        prefix = source.read_prefix(65536)
        assert prefix.data == payload[:65536]
        assert prefix.size == len(payload)
        assert prefix.token.startswith('"')
        [(path, headers)] = fault_server.seen
        assert path == "/a.flac"
        assert headers["Range"] == "bytes=0-65535"
        assert headers["Accept-Encoding"] == "identity"

    def test_exactly_the_bytes_of_the_ranges(self, fault_server, payload):
        source = open_source(fault_server.url_of("a.flac"))
        assert agrees(source, payload)
        assert fault_server.requests["/a.flac"] == 3
        assert fault_server.bytes["/a.flac"] == 11_000

    def test_three_rows_of_tiles_are_three_requests(self, fault_server, payload):
        """Nine tiles, of which three lie side by side in each of three rows."""
        source = open_source(fault_server.url_of("a.flac"))
        tiles = [
            ByteRange(row * 50_000 + k * 999, row * 50_000 + (k + 1) * 999)
            for row in range(3)
            for k in range(3)
        ]
        assert agrees(source, payload, tiles)
        assert fault_server.requests["/a.flac"] == 3
        assert fault_server.bytes["/a.flac"] == 9 * 999

    def test_requests_are_sent_together(self, fault_server, payload):
        fault_server.faults = [Together(32)]
        source = open_source(fault_server.url_of("a.flac"))
        ranges = [ByteRange(k, k + 100) for k in range(0, 256_000, 8000)]
        assert agrees(source, payload, ranges)
        assert fault_server.requests["/a.flac"] == 32

    def test_more_are_merged_over_their_gaps(self, fault_server, payload):
        source = open_source(fault_server.url_of("a.flac"))
        ranges = [ByteRange(k, k + 100) for k in range(0, 256_000, 1000)]
        assert agrees(source, payload, ranges)
        assert fault_server.requests["/a.flac"] <= 32

    def test_ranges_come_as_they_arrive(self, fault_server):
        def first_is_slow(handler, _):
            if handler.headers["Range"] == "bytes=0-999":
                time.sleep(0.4)
            return False

        fault_server.faults = [first_is_slow]
        source = open_source(fault_server.url_of("a.flac"))
        assert [position for position, _ in source.read_ranges(THREE)][-1] == 0

    def test_parts_come_before_their_request_ends(self, fault_server, quick):
        fault_server.faults = [Stall(5000, times=1)]
        limits = replace(quick, timeout=2)
        source = open_source(fault_server.url_of("a.flac"), limits=limits)
        neighbours = [ByteRange(k, k + 1000) for k in range(0, 10_000, 1000)]
        arriving = source.read_ranges(neighbours)
        first = [next(arriving)[0] for _ in range(5)]
        assert len(fault_server.seen) == 1  # its first request, which has not ended
        assert [*first, *(k for k, _ in arriving)] == list(range(10))
        asked = [headers["Range"] for _, headers in fault_server.seen]
        # What came is not asked for again.
        assert asked == ["bytes=0-9999", "bytes=5000-9999"]

    def test_a_part_does_not_hold_its_request(self, fault_server):
        source = open_source(fault_server.url_of("a.flac"))
        neighbours = [ByteRange(k, k + 1000) for k in range(0, 100_000, 1000)]
        for _, data in source.read_ranges(neighbours):
            assert len(data.obj) == 1000

    def test_connections_wait_for_the_requests_after_the_first(self, fault_server):
        fault_server.latency = 0.2
        source = open_source(fault_server.url_of("a.flac"))
        source.read_prefix(10)
        assert fault_server.connections == 1 + source.limits.spare_connections == 4
        assert fault_server.requests["/a.flac"] == 1
        rows = [ByteRange(k, k + 10) for k in (0, 1000, 2000, 3000)]
        fault_server.faults = [Together(4)]
        assert len(list(source.read_ranges(rows))) == 4  # together, on the four
        assert fault_server.connections == 4

    @pytest.mark.parametrize("spare", [0, 2])
    def test_as_many_spare_connections_as_asked_for(self, fault_server, quick, spare):
        fault_server.latency = 0.1
        limits = replace(quick, spare_connections=spare)
        options = {"skip_instance_cache": True}
        source = open_source(fault_server.url_of("a.flac"), options, limits=limits)
        source.read_prefix(10)
        assert fault_server.connections == 1 + spare

    def test_a_begun_prefix_is_the_one_that_is_read(self, fault_server, payload):
        answered = threading.Event()
        fault_server.faults = [lambda *_: answered.set()]
        source = open_source(fault_server.url_of("a.flac"))
        source.begin_prefix(100)
        assert answered.wait(START_SECONDS)  # before anybody reads
        assert source.read_prefix(100).data == payload[:100]
        assert source.counters.requests == 1
        assert source.read_prefix(200).data == payload[:200]
        assert source.counters.requests == 2

    def test_abandoning_cancels(self, fault_server, quick):
        fault_server.latency = 0.05
        limits = replace(quick, gap=0, concurrency=2)
        source = open_source(fault_server.url_of("a.flac"), limits=limits)
        arriving = source.read_ranges(
            [ByteRange(k, k + 10) for k in range(0, 3000, 30)]
        )
        next(arriving)
        arriving.close()
        time.sleep(0.3)
        assert fault_server.requests["/a.flac"] <= 4

    def test_headers_reach_the_server(self, fault_server):
        options = {"headers": {"X-Key": "abc", "Range": "bytes=7-7"}}
        source = open_source(fault_server.url_of("a.flac"), options)
        source.read_range(0, 5)
        headers = fault_server.seen[0][1]
        assert (headers["X-Key"], headers["Range"]) == ("abc", "bytes=0-4")

    def test_redirects_are_followed(self, fault_server, payload):
        fault_server.faults = [Redirect("/old.flac", "/a.flac?token=1")]
        source = open_source(fault_server.url_of("old.flac"))
        assert agrees(source, payload)

    def test_the_query_is_sent_but_not_shown(self, fault_server, payload):
        url = fault_server.url_of("a.flac?sig=v3rysecret")
        targets = []
        fault_server.faults = [lambda handler, _: targets.append(handler.path) or False]
        source = open_source(url)
        assert agrees(source, payload)
        assert set(targets) == {"/a.flac?sig=v3rysecret"}
        assert "v3rysecret" not in repr(source)


@dataclass(frozen=True)
class Recoverable:
    name: str
    fault: Fault
    attempts: int


RECOVERABLE = [
    Recoverable("503-once", Status(503, times=1), 2),
    Recoverable("500-every-2nd", Status(500, times=3, every=2), 2),
    Recoverable("429-retry-after", Status(429, 2, 1, {"Retry-After": "0"}), 3),
    Recoverable("408", Status(408, times=1), 2),
    Recoverable("short-body", ShortBody(100, times=2), 3),
    Recoverable("no-body", ShortBody(0, times=1), 2),
    Recoverable("reset", Reset(times=2), 3),
    Recoverable("stall", Stall(100, times=1), 2),
]
FINAL = {
    404: "no such file",
    410: "no such file",
    403: "storage_options",
    401: "storage_options",
    400: "Bad Request",
    418: "Teapot",
}


class TestFaults:
    @pytest.mark.parametrize("case", RECOVERABLE, ids=lambda case: case.name)
    def test_transient_failures_are_retried(self, fault_server, quick, payload, case):
        fault_server.faults = [case.fault]
        limits = replace(quick, timeout=0.3)
        source = open_source(fault_server.url_of("a.flac"), limits=limits)
        assert source.read_range(1000, 2000) == payload[1000:2000]
        assert source.counters.retries == source.counters.requests - 1
        assert source.counters.requests >= case.attempts or case.name == "reset"
        assert source.counters.retries >= 1

    def test_every_third_request_fails(self, fault_server, quick, payload):
        fault_server.faults = [Status(500, every=3)]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        ranges = [ByteRange(k, k + 10) for k in range(0, 900, 30)]
        assert agrees(source, payload, ranges)

    @pytest.mark.parametrize(
        "fault",
        [Status(500), Status(429), ShortBody(7), Reset(), Stall(7)],
        ids=["500", "429", "short", "reset", "stall"],
    )
    def test_attempts_are_limited(self, fault_server, quick, fault):
        fault_server.faults = [fault]
        limits = replace(quick, retries=2, timeout=0.2)
        source = open_source(fault_server.url_of("a.flac"), limits=limits)
        start = time.monotonic()
        with pytest.raises(SourceError, match="gave up after 3 attempts") as caught:
            source.read_range(10, 1000)
        assert time.monotonic() - start < STALL_SECONDS
        assert (caught.value.start, caught.value.stop) == (10, 1000)
        assert caught.value.url == fault_server.url_of("a.flac")
        assert source.counters.requests == 3

    @pytest.mark.parametrize("status", FINAL)
    def test_final_statuses_are_not_retried(self, fault_server, quick, status):
        fault_server.faults = [Status(status)]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        with pytest.raises(SourceError, match=FINAL[status]) as caught:
            source.read_prefix(100)
        assert caught.value.status == status
        assert caught.value.url == fault_server.url_of("a.flac")
        assert fault_server.requests["/a.flac"] == 1
        missing = isinstance(caught.value, SourceNotFoundError)
        assert missing == (status in (404, 410))

    def test_range_beyond_the_end(self, fault_server, quick):
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        with pytest.raises(SourceError, match="416") as caught:
            source.read_range(400_000, 400_010)
        assert (caught.value.status, caught.value.start) == (416, 400_000)
        with pytest.raises(SourceError, match="has 300000 bytes"):
            source.read_range(299_999, 300_001)
        assert fault_server.requests["/a.flac"] == 2
        # Now that the size is known, no request is needed to know better.
        with pytest.raises(SourceError, match="has 300000"):
            source.read_range(299_999, 300_001)
        assert fault_server.requests["/a.flac"] == 2

    def test_retry_after_is_waited_for(self, fault_server, quick, payload):
        fault_server.faults = [Status(503, 1, 1, {"Retry-After": "1"})]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        start = time.monotonic()
        assert source.read_range(0, 10) == payload[:10]
        assert time.monotonic() - start >= 1.0

    def test_a_server_that_asks_for_an_hour_is_taken_at_its_word(
        self, fault_server, quick
    ):
        fault_server.faults = [Status(429, fields={"Retry-After": "3600"})]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        with pytest.raises(SourceError, match="asks to wait 3600 s") as caught:
            source.read_range(0, 10)
        assert caught.value.status == 429
        assert fault_server.requests["/a.flac"] == 1

    def test_nobody_listens(self, quick):
        source = open_source("http://127.0.0.1:9/a.flac", limits=quick)
        with pytest.raises(SourceError, match="refused"):
            source.read_prefix(10)
        assert source.counters.retries == 0

    def test_redirects_without_end(self, fault_server, quick):
        fault_server.faults = [Redirect("/a.flac", "/a.flac")]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        with pytest.raises(SourceError, match="TooManyRedirects"):
            source.read_prefix(10)
        assert source.counters.retries == 0

    def test_another_protocol(self, fault_server, quick):
        fault_server.faults = [lambda handler, _: handler.wfile.write(b"220 ftp\r\n")]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        with pytest.raises(SourceError, match="no HTTP"):
            source.read_prefix(10)

    @pytest.mark.parametrize(
        "options",
        [{"anon": True}, {"client_kwargs": {"anon": True}}],
        ids=["request", "session"],
    )
    def test_options_of_another_kind(self, fault_server, quick, options):
        source = open_source(fault_server.url_of("a.flac"), options, quick)
        with pytest.raises(
            SourceError, match=r"storage_options that aiohttp does not take: .*'anon'"
        ):
            source.read_prefix(10)

    @pytest.mark.parametrize(
        "content_range",
        [
            "bytes 1-1000/300000",
            "bytes 0-998/300000",
            "rows 0-999/1000",
            "bytes */9",
            "",
        ],
    )
    def test_wrong_content_range(self, fault_server, quick, content_range):
        fault_server.faults = [Rewrite({"Content-Range": content_range})]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        with pytest.raises(RangeNotSupportedError) as caught:
            source.read_range(0, 1000)
        assert caught.value.status == 206
        assert fault_server.requests["/a.flac"] == 1

    def test_compressed_range(self, fault_server, quick):
        fault_server.faults = [Rewrite({"Content-Encoding": "gzip"})]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        with pytest.raises(RangeNotSupportedError, match="compresses"):
            source.read_range(0, 1000)

    @pytest.mark.parametrize("coding", ["", "Identity"])
    def test_range_that_is_said_to_be_not_compressed(
        self, fault_server, quick, payload, coding
    ):
        fault_server.faults = [Rewrite({"Content-Encoding": coding})]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        assert source.read_range(0, 1000) == payload[:1000]

    @pytest.mark.parametrize(
        ("sent", "error", "attempts"),
        [(1000, None, 1), (999, SourceError, 2), (1001, RangeNotSupportedError, 1)],
    )
    def test_range_whose_body_ends_with_the_connection(
        self, fault_server, quick, payload, sent, error, attempts
    ):
        fault_server.faults = [Undelimited(sent)]
        limits = replace(quick, retries=1)
        source = open_source(fault_server.url_of("a.flac"), limits=limits)
        if error is None:
            assert source.read_range(0, 1000) == payload[:1000]
        else:
            with pytest.raises(error, match="body"):
                source.read_range(0, 1000)
        assert source.counters.requests == attempts

    @pytest.mark.parametrize("fault", [ignore_range, unknown_length])
    def test_small_file_without_ranges(self, fault_server, quick, payload, fault):
        fault_server.faults = [fault]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        prefix = source.read_prefix(100)
        assert prefix.data == payload[:100]
        assert prefix.size == len(payload)
        assert agrees(source, payload)
        assert fault_server.requests["/a.flac"] == 1
        with pytest.raises(SourceError, match="has 300000"):
            source.read_range(299_999, 300_001)

    @pytest.mark.parametrize("fault", [ignore_range, unknown_length])
    def test_large_file_without_ranges(self, fault_server, quick, served, fault):
        (served / "a.flac").write_bytes(bytes(30_000_000))
        fault_server.faults = [fault]
        limits = replace(quick, whole_file=1_000_000)
        source = open_source(fault_server.url_of("a.flac"), limits=limits)
        with pytest.raises(RangeNotSupportedError, match="ignores Range") as caught:
            source.read_prefix(100)
        assert caught.value.status == 200
        # What a header announces is refused before the body.
        assert source.counters.bytes < (1 if fault is ignore_range else 2_000_000)
        assert fault_server.bytes["/a.flac"] < 20_000_000
        assert source.counters.requests == 1

    def test_whole_file_cut_short(self, fault_server, quick, payload):
        fault_server.faults = [ignore_range, ShortBody(1000, times=1)]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        assert agrees(source, payload)

    @pytest.mark.parametrize(
        "fields",
        [
            {"ETag": '"other"'},
            {"Last-Modified": formatdate(0, usegmt=True), "ETag": ""},
            {"Content-Range": "bytes 0-999/300001"},
        ],
        ids=["etag", "last-modified", "size"],
    )
    def test_replaced_file(self, fault_server, quick, fields):
        fault_server.faults = [Rewrite(fields, after=1)]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        source.read_prefix(100)
        with pytest.raises(SourceChangedError, match="was replaced"):
            source.read_range(0, 1000)
        assert fault_server.requests["/a.flac"] == 2

    def test_replaced_in_the_middle_of_a_read(self, fault_server, quick):
        fault_server.faults = [Rewrite({"ETag": '"other"'}, after=2)]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        source.read_prefix(100)
        with pytest.raises(SourceChangedError):
            dict(source.read_ranges(THREE))

    def test_weak_and_strong_tags_of_the_same_file(self, fault_server, quick, payload):
        fault_server.faults = [
            Rewrite({"ETag": '"x"'}),
            Rewrite({"ETag": 'W/"x"'}, after=2),
        ]
        source = open_source(fault_server.url_of("a.flac"), limits=quick)
        assert agrees(source, payload)

    def test_a_trickle_ends(self, fault_server, quick):
        def trickle(handler, _):
            handler.server.count_request(handler.path)
            handler.send_response(206)
            handler.send_header("Content-Range", "bytes 0-999/300000")
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            while not handler.server.stopping.wait(0.05):
                handler.wfile.write(b"x")
            return True

        fault_server.faults = [trickle]
        limits = replace(quick, timeout=0.1, retries=0)
        source = open_source(fault_server.url_of("a.flac"), limits=limits)
        start = time.monotonic()
        with pytest.raises(SourceError, match="stall"):
            source.read_range(0, 1000)
        assert time.monotonic() - start < 1000 * 0.05 / 2

    def test_empty_file(self, fault_server, quick):
        source = open_source(fault_server.url_of("empty.flac"), limits=quick)
        prefix = source.read_prefix(100)
        assert (bytes(prefix.data), prefix.size) == (b"", 0)

    def test_a_user_timeout_is_honoured(self, fault_server, quick):
        fault_server.faults = [Stall(0)]
        options = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=0.1)}}
        limits = replace(quick, retries=0, timeout=STALL_SECONDS)
        source = open_source(fault_server.url_of("a.flac"), options, limits)
        start = time.monotonic()
        with pytest.raises(SourceError):
            source.read_range(0, 1000)
        assert time.monotonic() - start < limits.timeout

    def test_raise_for_status_of_the_user(self, fault_server, quick, payload):
        fault_server.faults = [Status(503, times=1)]
        options = {"client_kwargs": {"raise_for_status": True}}
        source = open_source(fault_server.url_of("a.flac"), options, quick)
        assert source.read_range(0, 10) == payload[:10]

    def test_reading_from_the_loop_itself_is_refused(self, fault_server, quick):
        source = open_source(fault_server.url_of("a.flac"), limits=quick)

        async def read():
            return source.read_range(0, 1)

        import fsspec.asyn

        with pytest.raises(SourceError, match="own event loop"):
            fsspec.asyn.sync(fsspec.asyn.get_loop(), read)


class TestAnswers:
    """The judgement of answers alone."""

    @pytest.mark.parametrize(
        ("text", "low", "high"),
        [
            ("7", 7, 7),
            (formatdate(2**32, usegmt=True), 1e9, 2**32),  # in 2106
            (formatdate(0, usegmt=True), 0, 0),
        ],
    )
    def test_retry_after(self, text, low, high):
        head = AnswerHead(503, {"Retry-After": text}, "x", 0, 1)
        with pytest.raises(TransientError) as caught:
            head.raise_for_status()
        assert low <= caught.value.retry_after <= high

    @pytest.mark.parametrize("text", ["", "soon", "-3"])
    def test_retry_after_nonsense(self, text):
        head = AnswerHead(503, {"Retry-After": text}, "x", 0, 1)
        with pytest.raises(TransientError) as caught:
            head.raise_for_status()
        assert caught.value.retry_after is None

    @given(st.text(max_size=40), st.booleans())
    def test_no_content_range_gives_another_error(self, text, prefix):
        head = AnswerHead(206, {"Content-Range": text}, "x", 3, 9)
        with pytest.raises(SourceError):
            head.partial_nbytes(prefix=prefix)

    @given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(1, 9))
    def test_only_the_very_range_is_accepted(self, first, last, start, more):
        text = f"bytes {first}-{last}/100"
        head = AnswerHead(206, {"Content-Range": text}, "x", start, start + more)
        if (first, last + 1) == (start, start + more):
            assert head.partial_nbytes(prefix=False) == more
        else:
            with pytest.raises(RangeNotSupportedError):
                head.partial_nbytes(prefix=False)


class TestRangeServer:
    @given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 40))
    def test_parse_range_is_slicing(self, size, first, last):
        file = bytes(range(size))
        expected = file[first : last + 1]
        try:
            found = parse_range(f"bytes={first}-{last}", size)
        except ValueError:
            assert first >= size
            return
        if found is None:
            assert last < first
            return
        assert file[found[0] : found[1]] == expected

    def test_head_and_conditions(self, range_server):
        ask = urllib.request.Request(range_server.url_of("a.flac"), method="HEAD")  # noqa: S310
        with urllib.request.urlopen(ask) as answer:  # noqa: S310
            assert answer.headers["Content-Length"] == "300000"
            assert answer.read() == b""
            etag = answer.headers["ETag"]
        for tag, status in ((etag, 206), ('"other"', 200)):
            ask = urllib.request.Request(range_server.url_of("a.flac"))  # noqa: S310
            ask.add_header("Range", "bytes=0-9")
            ask.add_header("If-Range", tag)
            with urllib.request.urlopen(ask) as answer:  # noqa: S310
                assert answer.status == status

    @pytest.mark.parametrize(
        "path",
        [
            "../secret",
            "%2e%2e/secret",
            "..%2fsecret",
            "link",
            "/etc/passwd",
            "a%00",
            ".",
        ],
    )
    def test_nothing_outside_is_served(self, range_server, served, path):
        (served.parent / "secret").write_text("secret")
        (served / "link").symlink_to(served.parent / "secret")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(range_server.url_of(path))  # noqa: S310
        with caught.value as answer:
            assert answer.code == 404

    def test_it_ends_with_open_connections(self, served):
        from flac_xarray.range_server import RangeServer

        before = set(threading.enumerate())
        with RangeServer(served) as server:
            source = open_source(server.url_of("a.flac"))
            source.read_prefix(10)
        left = set(threading.enumerate()) - before
        assert not [t.name for t in left if "serve_forever" in t.name]


class TestNginx:
    @pytest.mark.parametrize("where", ["plain", "gzip", "moved"])
    @pytest.mark.parametrize("name", ["a.flac", "compressible.flac"])
    def test_ranges(self, nginx_server, where, name, quick):
        url = f"{nginx_server.url}/{where}/{name}"
        with urllib.request.urlopen(url) as answer:  # noqa: S310
            whole = answer.read()
        source = open_source(url, limits=quick)
        assert source.read_prefix(100).size == len(whole)
        assert agrees(source, whole)
        assert source.counters.bytes == 100 + 11_000
        assert source.counters.requests == 4

    def test_nginx_would_compress_if_asked(self, nginx_server):
        ask = urllib.request.Request(f"{nginx_server.url}/gzip/compressible.flac")  # noqa: S310
        ask.add_header("Accept-Encoding", "gzip")
        with urllib.request.urlopen(ask) as answer:  # noqa: S310
            assert answer.headers["Content-Encoding"] == "gzip"

    def test_no_ranges(self, nginx_server, payload, quick):
        url = f"{nginx_server.url}/noranges/a.flac"
        source = open_source(url, limits=quick)
        assert agrees(source, payload)
        assert open_source(url, limits=quick).read_prefix(9).data == payload[:9]
        with pytest.raises(RangeNotSupportedError, match="all 300000 bytes"):
            open_source(url, limits=replace(quick, whole_file=10_000)).read_prefix(9)

    # fsspec's documentation still tells its users to use it.
    @pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
    @pytest.mark.parametrize("how", ["client_kwargs", "header", "url"])
    def test_basic_auth(self, nginx_server, payload, quick, how):
        auth = aiohttp.BasicAuth("me", "hunter2secret")
        url = f"{nginx_server.url}/auth/a.flac"
        options = {
            "client_kwargs": {"client_kwargs": {"auth": auth}},
            "header": {"headers": {"Authorization": auth.encode()}},
            "url": {},
        }[how]
        if how == "url":
            url = url.replace("://", "://me:hunter2secret@")
        source = open_source(url, options, quick)
        assert agrees(source, payload)
        assert "hunter2secret" not in f"{source!r} {source} {source.name}"

    @pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
    @pytest.mark.parametrize("auth", [None, ("me", "wr0ngpassword")])
    def test_wrong_credentials(self, nginx_server, quick, auth):
        options = {"auth": aiohttp.BasicAuth(*auth)} if auth else {}
        source = open_source(f"{nginx_server.url}/auth/a.flac", options, quick)
        with pytest.raises(SourceError, match="credentials") as caught:
            source.read_prefix(10)
        assert caught.value.status == 401
        assert "wr0ng" not in f"{caught.value!r} {caught.value}"
        assert source.counters.requests == 1

    def test_tls(self, nginx_server, payload, quick):
        trust = ssl.create_default_context(cafile=nginx_server.certificate)
        url = f"{nginx_server.tls_url}/plain/a.flac"
        assert agrees(open_source(url, {"ssl": trust}, quick), payload)

    def test_tls_with_an_unknown_certificate(self, nginx_server, quick):
        source = open_source(f"{nginx_server.tls_url}/plain/a.flac", limits=quick)
        with pytest.raises(SourceError, match="Certificate"):
            source.read_prefix(10)
        assert source.counters.requests == 1

    def test_missing(self, nginx_server, quick):
        source = open_source(f"{nginx_server.url}/plain/no.flac", limits=quick)
        with pytest.raises(SourceNotFoundError):
            source.read_prefix(10)

    def test_keeping_up_with_many_requests(self, nginx_server, payload, quick):
        source = open_source(
            f"{nginx_server.url}/plain/a.flac", limits=replace(quick, gap=0)
        )
        ranges = [ByteRange(k, k + 100) for k in range(0, 250_000, 500)]
        assert agrees(source, payload, ranges)
        assert source.counters.requests == 500
