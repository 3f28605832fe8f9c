import contextlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flac_xarray.errors import CorruptTileError, FormatError
from flac_xarray.transforms.masks import (
    blocks_of,
    find_runs,
    open_counts,
    pack_counts,
    pack_gaps,
    pack_mask,
    spread_gaps,
    spread_mask,
    take_mask,
)
from flac_xarray.transforms.pipeline import apply_plan, undo_plan
from flac_xarray.transforms.plan import Plan
from flac_xarray.transforms.predict import (
    PREDICTORS,
    predict_residual,
    row_order,
    undo_residual,
)
from flac_xarray.transforms.scaling import Scale, find_scale, unscale_ints
from flac_xarray.transforms.side import SideReader, pack_piece
from flac_xarray.transforms.streams import (
    pack_residual,
    pack_runs,
    spread_runs,
    take_pairs,
    take_residual,
)
from flac_xarray.transforms.values import order_floats
from flac_xarray.transforms.words import join_words, split_words

INTS = [np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)]


def noise(shape, dtype, seed=0):
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.random.default_rng(seed).bytes(size)
    return np.frombuffer(raw, dtype).reshape(shape).copy()


# --- rows from rows


def test_lift_by_hand():
    # Rows 0, 2 and 4 are coarser than 1 and 3: 4 first, then 2, then the odd rows.
    rows = np.array([[[10], [13], [14], [15], [20]]], np.int16)
    assert row_order(5, "lift").tolist() == [0, 4, 2, 1, 3]
    # 20 has no row below: 20 - 10. 14 - (10 + 20) // 2. 13 - 12. 15 - 17.
    assert predict_residual(rows, "lift").ravel().tolist() == [10, 10, -1, 1, -2]


def test_lift_takes_the_mean_of_unsigned_numbers():
    rows = np.array([[[65535], [65533], [65531]]], np.uint16)
    residual = predict_residual(rows, "lift")
    assert residual.view(np.int16).ravel().tolist() == [-1, -4, 0]


def test_lift_rounds_the_mean_down():
    rows = np.array([[[-1], [0], [-2]]], np.int8)
    # The floor of -1.5 is -2.
    assert predict_residual(rows, "lift").ravel().tolist() == [-1, -1, 2]


def test_smooth_by_hand():
    rows = np.array([[[8, 16, 32], [5, 5, 5], [8, 16, 32]]], np.int16)
    # Pairs are 16, 32, 64; (16 + 32 + 32 + 4) >> 3, (16 + 64 + 64 + 4) >> 3, ...
    assert predict_residual(rows, "smooth")[0, 2].tolist() == [
        5 - 10,
        5 - 18,
        5 - 28,
    ]


def test_up_by_hand():
    rows = np.array([[[200, 1], [3, 2]]], np.uint8)
    assert predict_residual(rows, "up").tolist() == [[[200, 1], [59, 1]]]


@pytest.mark.parametrize("dtype", INTS, ids=str)
@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("height", [1, 2, 3, 63, 64, 65, 130])
def test_any_rows_come_back(dtype, predictor, height):
    values = noise((2, height, 5), dtype)
    before = values.copy()
    out = np.empty_like(values)
    undo_residual(predict_residual(values, predictor), predictor, out)
    np.testing.assert_array_equal(out, before)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_voids_have_no_residual(predictor):
    values = noise((2, 100, 9), np.dtype("u2"))
    valid = noise(values.shape, np.dtype("u1"), 1) > 100
    residual = predict_residual(values, predictor, valid)
    assert not residual[:, np.arange(100)][~valid[:, row_order(100, predictor)]].any()
    out = np.empty_like(values)
    undo_residual(residual, predictor, out)
    np.testing.assert_array_equal(out[valid], values[valid])


# --- wide integers


def test_digits_by_hand():
    values = np.array([0, -1, 32768, -32769, 65536], np.int32)
    digits = [[0, 0], [-1, 0], [-32768, 1], [32767, -1], [0, 1]]
    assert split_words(values, 16, 2).tolist() == digits


@pytest.mark.parametrize(("bits", "channels"), [(16, 4), (24, 3)])
@pytest.mark.parametrize("dtype", ["i4", "i8"])
def test_digits_come_back(bits, channels, dtype):
    values = noise((1000,), np.dtype(dtype))
    values[:2] = np.iinfo(dtype).min, np.iinfo(dtype).max
    digits = split_words(values, bits, channels)
    assert abs(digits.astype(int)).max() <= 1 << bits - 1
    np.testing.assert_array_equal(join_words(digits, bits, values.dtype), values)


# --- values


def test_float_order_is_that_of_the_floats():
    floats = np.array([-np.inf, -1.5, -0.0, 0.0, 1e-40, 1.5, np.inf], np.float32)
    bits = order_floats(floats.view(np.int32))
    assert (np.diff(bits) > 0).all()
    np.testing.assert_array_equal(order_floats(bits), floats.view(np.int32))


@pytest.mark.parametrize(
    ("floats", "expected"),
    [
        (np.arange(-5, 5) / np.float32(1), Scale("i1", is_divisor=True, step=1.0)),
        ((np.arange(5000) / 100).astype("f4"), Scale("i2", is_divisor=True, step=100)),
        (
            (np.arange(9000) * 0.3048).astype("f8"),
            Scale("i2", is_divisor=False, step=0.3048),
        ),
        (np.array([0.5, -0.0], "f4"), None),
        (np.array([0.5, np.nan], "f4"), None),
        (np.array([0.1, np.pi, 1e9], "f8"), None),
        (np.array([1e300, 1.0], "f8"), None),
    ],
    ids=["ints", "centimetres", "feet", "-0.0", "nan", "reals", "huge"],
)
def test_find_scale(floats, expected):
    if expected is None or expected.step != 1:
        assert find_scale(floats) == expected
        return
    assert find_scale(floats.astype("f4")) == expected


def test_scaled_ints_are_rounded_once():
    found = unscale_ints(
        np.array([1, 3]), Scale("i1", is_divisor=True, step=10.0), np.dtype("f4")
    )
    assert found.tolist() == [np.float32(0.1), np.float32(0.3)]


# --- side data


def test_piece_is_laid_out_as_specified():
    assert pack_piece(b"\x01\x02").hex() == "00000000" + "02000000" * 2 + "0102"


@pytest.mark.parametrize("effort", range(10))
@pytest.mark.parametrize("data", [b"", b"a", bytes(100_000), b"\x01\x00" * 999])
def test_pieces_come_back(effort, data):
    packed = pack_piece(data, effort=effort) + pack_piece(b"next", effort=effort)
    reader = SideReader(packed)
    assert reader.take(len(data)).tobytes() == data
    assert reader.take(10, 0).tobytes() == b"next"
    with pytest.raises(CorruptTileError, match="ends before"):
        reader.take(1)


def test_piece_larger_than_the_tile_allows_is_not_unpacked():
    bomb = pack_piece(bytes(10_000_000))
    assert len(bomb) < 20_000
    with pytest.raises(CorruptTileError, match="expected 100 to 100"):
        SideReader(bomb).take(100)
    # A header that lies about the size yields no more than it says.
    lying = bomb[:4] + (100).to_bytes(4, "little") + bomb[8:]
    assert SideReader(lying).take(100).tobytes() == bytes(100)


@given(st.binary(max_size=100), st.integers(0, 300))
def test_any_piece_yields_bytes_or_format_error(data, nbytes):
    with contextlib.suppress(FormatError):
        assert len(SideReader(data).take(nbytes, 0)) <= nbytes


def test_runs_by_hand():
    values, lengths = find_runs(np.array([4, 4, 9, 9, 9, 4]))
    assert (values.tolist(), lengths.tolist()) == ([4, 9, 4], [2, 3, 1])


@pytest.mark.parametrize("share", [0, 1, 50, 255, 256])
def test_masks_and_gaps_come_back(share):
    mask = noise((2, 70, 33), np.dtype("u1")) < share
    reader = SideReader(pack_mask(mask) + pack_gaps(mask))
    taken = take_mask(reader, mask.shape)
    assert taken.count == np.count_nonzero(mask)
    blocks = [taken.block(at) for at in blocks_of(mask.shape)]
    np.testing.assert_array_equal(np.concatenate(blocks), mask)
    flat = np.zeros(mask.size, np.int16)
    flat[mask.size - taken.count :] = 7
    spread_gaps(open_counts(reader, mask.size, 0, mask.size), flat)
    np.testing.assert_array_equal(flat, 7 * mask.reshape(-1))


@pytest.mark.parametrize("shape", [(3, 300, 700), (1, 2, 99_999), (400, 20, 30)])
@pytest.mark.parametrize("length", [1, 3, 40, 100_000])
def test_what_takes_many_blocks_comes_back(shape, length):
    rng = np.random.default_rng(length)
    size = int(np.prod(shape))
    lengths = rng.integers(1, 2 * length, 2 * size // length + 2)
    mask = np.repeat(np.arange(len(lengths)) & 1 == 1, lengths)[:size].reshape(shape)
    reader = SideReader(pack_mask(mask) + pack_gaps(mask))
    taken = take_mask(reader, shape)
    values = rng.integers(1, 99, size)
    expected = np.zeros(size, np.int64)
    expected[mask.reshape(-1)] = values[: taken.count]
    for spread in (
        lambda flat: spread_mask(taken, flat),
        lambda flat: spread_gaps(open_counts(reader, size, 0, size), flat),
    ):
        flat = np.zeros(size, np.int64)
        flat[size - taken.count :] = values[: taken.count]
        spread(flat)
        np.testing.assert_array_equal(flat, expected)
    for form in ("apart", "pairs"):
        numbers = expected.astype(np.int8)
        side = []
        kept = pack_runs(numbers, form, 5, side)
        flat = np.zeros(size, np.int8)
        if form == "pairs":
            take_pairs(SideReader(b"".join(side)), flat)
        else:
            flat[size - len(kept) :] = kept
            counts = open_counts(SideReader(b"".join(side)), size, 1, size)
            spread_runs(counts, flat)
        np.testing.assert_array_equal(flat, numbers)


def test_counts_come_back():
    counts = np.array([0, 254, 255, 256, 1 << 31])
    taken = open_counts(SideReader(pack_counts(counts)), 5, 0, 1 << 32)
    assert np.concatenate(list(taken.blocks())).tolist() == counts.tolist()


@pytest.mark.parametrize(
    ("low", "rests", "word"),
    [
        ([255], [], "more long counts"),
        ([254, 255], [0, 0], "fewer long counts"),
        ([254], [0], "fewer long counts"),
    ],
)
def test_long_counts_are_as_many_as_there_are(low, rests, word):
    planes = np.array(rests, "<u4").view("u1").reshape(-1, 4).T.tobytes()
    side = SideReader(pack_piece(bytes(low)) + pack_piece(planes))
    with pytest.raises(CorruptTileError, match=word):
        list(open_counts(side, 9, 0, 999).blocks())
    odd = SideReader(pack_piece(bytes(low)) + pack_piece(bytes(6)))
    with pytest.raises(CorruptTileError, match="cut off"):
        open_counts(odd, 9, 0, 999)


@pytest.mark.parametrize("gaps", [[3, 3, 2], [0, 0, 8], [9, 0, 0], [0, 9, 0]])
def test_gaps_that_leave_their_array(gaps):
    flat = np.zeros(10, np.int16)
    counts = open_counts(SideReader(pack_counts(np.array(gaps))), 10, 0, 10)
    with pytest.raises(CorruptTileError, match="of 10"):
        spread_gaps(counts, flat)


@pytest.mark.parametrize("lengths", [[9, 1], [8], [0] * 9, [0] * 11, [1 << 32, 1]])
def test_runs_that_do_not_fill_their_array(lengths):
    flat = np.zeros(10, np.int16)
    with pytest.raises(CorruptTileError, match=r"runs hold|expected|long counts"):
        spread_runs(
            open_counts(SideReader(pack_counts(np.array(lengths))), 10, 1, 10), flat
        )


@pytest.mark.parametrize("counts", [[5, 5], [1 << 32] * 2, [199]])
def test_mask_of_another_size(counts):
    with pytest.raises(CorruptTileError):
        take_mask(SideReader(pack_counts(np.array(counts))), (1, 10, 20))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8"])
def test_packed_residuals_come_back(dtype):
    values = noise((500,), np.dtype(dtype))
    reader = SideReader(pack_residual(values, 5))
    out = np.empty_like(values)
    take_residual(reader, out)
    np.testing.assert_array_equal(out, values)


# --- plans

PLANS = [
    Plan(),
    Plan(fill=b"\x00\xff"),
    Plan(void=b"\x00\x80", palette="u2", predictor="lift"),
    Plan(scale=Scale("i4", is_divisor=True, step=100.0), across=True, packed=True),
    Plan(offset=("u1", -(1 << 40)), sparse=True),
    Plan(bands=(1, -1, 1), predictor="smooth", pixel=True),
    Plan(bands=tuple(range(-1, 391)), runs="pairs"),
]


@pytest.mark.parametrize("plan", PLANS, ids=Plan.pack)
def test_plans_come_back(plan):
    assert Plan.unpack(plan.pack()) == plan


def test_plan_texts():
    assert [plan.pack() for plan in PLANS] == [
        "",
        "fill:00ff",
        "void:0080 palette:u2 lift",
        "scale:i4,/100.0 across packed",
        "offset:u1,-1099511627776 sparse",
        "bands:1,-,1 smooth pixel",
        "bands:previous,392 runs:pairs",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "wavelet",
        "lift up",
        "sparse lift",
        "void:0",
        "bands:0",
        "bands:1,2,0",
        "bands:5,-",
        "bands:previous",
        "bands:-",
        "palette:f4",
        "offset:u2",
        "offset:u2,1e3",
        "scale:i2,/0",
        "scale:i2,/nan",
        "scale:i2,",
        "sparse:1",
        "runs",
    ],
)
def test_unknown_plans(text):
    if text == "bands:-":
        assert Plan.unpack(text).bands == (-1,)
        return
    with pytest.raises(FormatError):
        Plan.unpack(text)


@given(st.text(alphabet="abdefilnoprsuvw:,-/*.0123456789 ", max_size=40))
def test_any_text_yields_a_plan_or_format_error(text):
    with contextlib.suppress(FormatError):
        Plan.unpack(text)


# --- all of them together


def undo(coded, shape, dtype):
    """Undo a plan with the very samples that encoding gave."""
    parts = np.empty(shape, dtype)

    def get_samples(out, planes):
        samples = coded.samples
        assert planes in (None, 1 if samples.ndim == 1 else samples.shape[1])
        if planes is None:
            samples = join_words(samples, coded.bits_per_sample, out.dtype)
        out[...] = samples.T.reshape(-1)

    plan = Plan.unpack(coded.plan.pack())
    undo_plan(plan, coded.side, parts, get_samples)
    return parts


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize(
    "plan",
    [
        Plan(),
        Plan(bands=(1, -1, 0)),
        Plan(palette="u1"),
        Plan(across=True),
        Plan(packed=True),
        Plan(across=True, packed=True),
        Plan(sparse=True),
        Plan(sparse=True, packed=True),
        Plan(runs="apart"),
        Plan(runs="apart", packed=True),
        Plan(runs="pairs", palette="u1"),
        Plan(runs="pairs", palette="u1", across=True),
        Plan(offset=("u2", -7)),
        Plan(pixel=True),
    ],
    ids=Plan.pack,
)
@pytest.mark.parametrize("void", [None, 3])
def test_every_transform_comes_back(plan, predictor, void):
    dtype = np.dtype("i4")
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 4, (1, 90, 31)).cumsum(axis=1) // 20
    parts = np.concatenate([plane, plane + 5, plane]).astype(dtype)
    plan = replace(plan, predictor=predictor)
    if void is not None:
        if plan.bands:
            parts[:, 10:20, 5:] = void
            parts[parts == void] += 1
            parts[:, 10:20, 5:] = void
        plan = replace(plan, void=np.array(void, dtype).tobytes())
        assert (parts == void).any()
    coded = apply_plan(parts, plan)
    np.testing.assert_array_equal(undo(coded, parts.shape, dtype), parts)


def test_planes_with_different_voids_cannot_refer_to_each_other():
    parts = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    plan = Plan(void=b"\x05\x00", bands=(-1, 0))
    with pytest.raises(ValueError, match="different voids"):
        apply_plan(parts, plan)
