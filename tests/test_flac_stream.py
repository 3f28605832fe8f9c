import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flac_xarray.errors import FormatError, UnsupportedDataError
from flac_xarray.flac_stream import (
    APPLICATION,
    MAX_BLOCK_NBYTES,
    Block,
    StreamInfo,
    pack_application,
    pack_comments,
    pack_stream,
    unpack_application,
    unpack_comments,
    unpack_stream,
)

INFO = StreamInfo(2048, 4096, 12, 345, 44100, 2, 24, 1 << 33, bytes(range(16)))


def test_streaminfo_is_laid_out_as_the_rfc_says():
    # RFC 9639, 8.2: 20 bits of 44100, 3 of channels - 1, 5 of bits - 1, 36 of 2**33.
    fields = 0x0AC44 << 44 | 0b001 << 41 | 0b10111 << 36 | 1 << 33
    sizes = bytes.fromhex("0800 1000 00000c 000159")
    expected = sizes + struct.pack(">Q", fields) + bytes(range(16))
    assert INFO.pack() == expected
    assert StreamInfo.unpack(expected) == INFO


def test_stream_is_magic_blocks_frames():
    stream = pack_stream(INFO, [Block(4, b"abc")], b"frames")
    assert stream == b"".join(
        (b"fLaC", b"\x00\x00\x00\x22", INFO.pack(), b"\x84\x00\x00\x03abc", b"frames")
    )
    info, blocks, offset = unpack_stream(stream)
    assert (info, blocks) == (INFO, (Block(4, b"abc"),))
    assert stream[offset:] == b"frames"


def test_comments_are_laid_out_as_vorbis_does():
    block = pack_comments({"A": "é"})
    assert block.kind == 4
    assert block.payload == (
        b"\x00\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00A=\xc3\xa9"
    )


def test_comment_names_are_read_in_upper_case_and_the_first_counts():
    entries = [b"\x03\x00\x00\x00a=1", b"\x03\x00\x00\x00A=2", b"\x01\x00\x00\x00b"]
    payload = b"\x00\x00\x00\x00\x03\x00\x00\x00" + b"".join(entries)
    assert unpack_comments([Block(4, payload)]) == {"A": "1", "B": ""}


@pytest.mark.parametrize("name", ["", "a=b", "ü", "new\nline"])
def test_comment_name_that_cannot_be(name):
    with pytest.raises(UnsupportedDataError):
        pack_comments({name: "x"})


def test_comment_with_half_a_character():
    with pytest.raises(UnsupportedDataError, match="Unicode"):
        pack_comments({"A": "\ud800"})


def test_long_side_data_is_split_over_blocks():
    data = bytes(range(256)) * ((MAX_BLOCK_NBYTES + 1000) // 256)
    blocks = pack_application(b"ABCD", data)
    assert [len(b.payload) <= MAX_BLOCK_NBYTES for b in blocks] == [True, True]
    foreign = Block(APPLICATION, b"riffxyz")
    assert unpack_application(b"ABCD", [foreign, *blocks]) == data
    _, found, _ = unpack_stream(pack_stream(INFO, blocks, b""))
    assert unpack_application(b"ABCD", found) == data


def test_block_longer_than_24_bits_is_refused():
    with pytest.raises(UnsupportedDataError, match="16777216"):
        pack_stream(INFO, [Block(4, bytes(MAX_BLOCK_NBYTES + 1))], b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"fLaC",
        b"OggS" + bytes(100),
        b"fLaC\x84\x00\x00\x00",
        b"fLaC\x00\x00\x00\x21" + bytes(33),
        b"fLaC\x00\x00\x00\x22" + bytes(10),
        b"fLaC\x80\x00\x00\x22" + bytes(33) + b"",
        b"fLaC\x00\x00\x00\x22" + INFO.pack() + b"\x80\x00\x00\x22" + INFO.pack(),
        b"fLaC\x00\x00\x00\x22" + INFO.pack() + b"\xff\x00\x00\x00",
        b"fLaC\x80\x00\x00\x22" + bytes(34),
    ],
    ids=[
        "nothing",
        "magic alone",
        "ogg",
        "comments first",
        "short STREAMINFO",
        "cut off",
        "cut off by one",
        "two STREAMINFO",
        "forbidden type",
        "one bit a sample",
    ],
)
def test_broken_streams(data):
    with pytest.raises(FormatError):
        unpack_stream(data)


def test_block_that_promises_more_than_there_is():
    data = b"fLaC\x00\x00\x00\x22" + INFO.pack() + b"\x84\xff\xff\xff"
    with pytest.raises(FormatError) as caught:
        unpack_stream(data)
    assert caught.value.expected == len(data) + MAX_BLOCK_NBYTES


@given(st.binary(max_size=200))
def test_any_bytes_yield_a_value_or_format_error(data):
    for unpack in (
        unpack_stream,
        lambda d: unpack_stream(b"fLaC\x00\x00\x00\x22" + INFO.pack() + d),
        StreamInfo.unpack,
        lambda d: unpack_comments([Block(4, d)]),
    ):
        with contextlib.suppress(FormatError):
            unpack(data)


@given(
    st.dictionaries(
        st.text(st.characters(min_codepoint=65, max_codepoint=90), min_size=1),
        st.text(st.characters(exclude_categories=["Cs"])),
        max_size=5,
    )
)
def test_comments_round_trip(comments):
    assert unpack_comments([pack_comments(comments)]) == comments
