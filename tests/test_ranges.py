from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flac_xarray.ranges import ByteRange, Part, Request, plan_requests


@dataclass(frozen=True)
class Case:
    name: str
    ranges: tuple[tuple[int, int], ...]
    gap: int
    max_request: int
    requests: tuple[tuple[int, int], ...]
    items: tuple[tuple[int, ...], ...]


CASES = [
    Case("nothing", (), 0, 10, (), ()),
    Case("one", ((5, 9),), 0, 10, ((5, 9),), ((0,),)),
    Case("only-empty", ((5, 5), (0, 0)), 9, 10, (), ()),
    Case("empty-between", ((0, 2), (2, 2), (2, 4)), 0, 9, ((0, 4),), ((0, 2),)),
    Case("adjacent", ((0, 4), (4, 8)), 0, 10, ((0, 8),), ((0, 1),)),
    Case("out-of-order", ((4, 8), (0, 4)), 0, 10, ((0, 8),), ((1, 0),)),
    Case("gap-exact", ((0, 4), (7, 8)), 3, 10, ((0, 8),), ((0, 1),)),
    Case("gap-too-wide", ((0, 4), (8, 9)), 3, 10, ((0, 4), (8, 9)), ((0,), (1,))),
    Case("size-exact", ((0, 4), (4, 10)), 0, 10, ((0, 10),), ((0, 1),)),
    Case("size-beyond", ((0, 4), (4, 11)), 0, 10, ((0, 4), (4, 11)), ((0,), (1,))),
    Case("one-too-large", ((0, 50),), 0, 10, ((0, 50),), ((0,),)),
    Case(
        "inside-too-large", ((0, 50), (10, 60), (20, 30)), 0, 10,
        ((0, 50), (10, 60)), ((0,), (1, 2)),
    ),
    Case("duplicates", ((3, 6), (3, 6)), 0, 10, ((3, 6),), ((0, 1),)),
    Case("same-start", ((3, 4), (3, 6)), 0, 10, ((3, 6),), ((1, 0),)),
    Case("overlap", ((0, 6), (4, 9)), 0, 10, ((0, 9),), ((0, 1),)),
    Case("contained", ((0, 9), (2, 4)), 0, 10, ((0, 9),), ((0, 1),)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_structure(case):
    ranges = [ByteRange(*pair) for pair in case.ranges]
    plan = plan_requests(ranges, gap=case.gap, max_request=case.max_request)
    assert tuple((r.start, r.stop) for r in plan) == case.requests
    assert tuple(tuple(p.item for p in r.parts) for r in plan) == case.items


def test_parts_say_where():
    plan = plan_requests([ByteRange(12, 15), ByteRange(10, 11)], gap=1, max_request=9)
    assert plan == (Request(10, 15, (Part(1, 0, 1), Part(0, 2, 3))),)


def _ranges(largest):
    pair = st.tuples(st.integers(0, largest), st.integers(0, 40))
    return st.lists(pair.map(lambda p: ByteRange(p[0], p[0] + p[1])), max_size=30)


@given(_ranges(200), st.integers(0, 30), st.integers(1, 90))
def test_every_range_gets_its_bytes(ranges, gap, max_request):
    file = bytes(range(250))
    found = {}
    for request in plan_requests(ranges, gap=gap, max_request=max_request):
        answer = file[request.start : request.stop]
        for part in request.parts:
            assert part.item not in found
            found[part.item] = answer[part.offset : part.offset + part.nbytes]
    expected = {i: file[r.start : r.stop] for i, r in enumerate(ranges) if r.nbytes}
    assert found == expected


@given(_ranges(200), st.integers(0, 30), st.integers(1, 90))
def test_requests_keep_the_limits(ranges, gap, max_request):
    plan = plan_requests(ranges, gap=gap, max_request=max_request)
    wanted = {b for r in ranges for b in range(r.start, r.stop)}
    for request in plan:
        largest = max(part.nbytes for part in request.parts)
        assert request.nbytes <= max(max_request, largest)
        # Brute force over bytes: the longest run of unwanted ones inside a request.
        run = 0
        for byte in range(request.start, request.stop):
            run = 0 if byte in wanted else run + 1
            assert run <= gap
        assert request.start in wanted
        assert request.stop - 1 in wanted


@given(_ranges(5000), st.integers(0, 30))
def test_as_few_requests_as_the_gap_allows(ranges, gap):
    """Without a size limit, requests are the runs of bytes parted by more than gap."""
    wanted = sorted({b for r in ranges for b in range(r.start, r.stop)})
    breaks = sum(b - a - 1 > gap for a, b in pairwise(wanted))
    plan = plan_requests(ranges, gap=gap, max_request=10**9)
    assert len(plan) == (breaks + 1 if wanted else 0)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (4, 3)])
def test_a_range_must_be_one(start, stop):
    with pytest.raises(ValueError, match=r"expected 0 <= start <= stop"):
        ByteRange(start, stop)


@pytest.mark.parametrize(
    "knobs", [{"gap": -1, "max_request": 1}, {"gap": 0, "max_request": 0}]
)
def test_knobs_must_make_sense(knobs):
    with pytest.raises(ValueError, match="expected gap >= 0"):
        plan_requests([], **knobs)
