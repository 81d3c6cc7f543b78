"""Where buffers lie on chip and how many fit, to the byte."""

import re

import pytest

import nkigen
from nkigen import _core
from nkigen.errors import NkigenError

#: usable bytes per partition, in whole pieces of 64
ROOM = {"trn1": 180224, "trn2": 212928, "trn3": 245696}


def program(sizes, events, target="trn2", space="sbuf"):
    """In the order of events: +k declares and writes buffer k of so many bytes, -k reads it for the last time."""
    lines = [
        f"tile @room {target} {{",
        "  %y = buffer {kind=output, index=0} : hbm f32[128, 1]",
        "  %out = buffer : sbuf f32[128, 1]",
    ]
    for event in events:
        at = f"%b{abs(event)}[0+128, 0: 1*1]"
        if event > 0:
            size = sizes[event] // 4
            lines.append(f"  %b{event} = buffer : {space} f32[128, {size}]")
            lines.append(f"  memset {at} {{imm0=0}}")
        elif space == "psum":
            lines.append(f"  tensor_copy %out[0+128, 0: 1*1], {at}")
        else:
            lines.append(f"  dma_copy %y[0: 128*1, 1*1], {at}")
    if space == "psum":
        lines.append("  dma_copy %y[0: 128*1, 1*1], %out[0+128, 0: 1*1]")
    return "\n".join([*lines, "  return %y", "}"]) + "\n"


def placed(sizes, events, target="trn2", space="sbuf"):
    """Addresses of the buffers by their number."""
    text = program(dict(enumerate(sizes, 1)), events, target, space)
    out = _core.run_pass("allocate", text, target)
    assert nkigen.parse(out).verify() == []
    found = re.findall(r"%b(\d+) = buffer {addr=(\d+)}", out)
    return [int(address) for _, address in sorted((int(k), a) for k, a in found)]


def at_once(sizes, target="trn2", space="sbuf"):
    numbers = range(1, len(sizes) + 1)
    return placed(sizes, [*numbers, *(-k for k in numbers)], target, space)


@pytest.mark.parametrize("target", ROOM)
def test_all_of_sbuf(target):
    room = ROOM[target]
    assert at_once([4096, room - 4096], target) == [0, 4096]
    for more in (4, 64):
        with pytest.raises(NkigenError, match=f"sbuf: no room for {room - 4032} bytes"):
            at_once([4096, room - 4096 + more], target)


@pytest.mark.parametrize("target", ROOM)
def test_all_of_psum(target):
    assert at_once([2048] * 8, target, "psum") == list(range(0, 16384, 2048))
    with pytest.raises(NkigenError, match="psum: no room for 2048 bytes"):
        at_once([2048] * 9, target, "psum")


def test_a_buffer_takes_whole_pieces():
    """4 bytes take 64, and 68 take 128."""
    assert at_once([4096, 4, 68, 4]) == [0, 4096, 4160, 4288]


def test_the_smallest_gap_that_holds():
    """Gaps of 256 and of 128, each between neighbours that stay: 128 bytes go into the second."""
    events = [1, 2, 3, 4, -1, -3, 5, 6, 7, -2, -4, -5, -6, -7]
    at = placed([256, 64, 128, 64, 128, 192, 64], events)
    assert at == [0, 256, 320, 448, 320, 0, 192]


@pytest.mark.parametrize(
    "gone", [(1, 2, 3), (3, 2, 1), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2)]
)
def test_gaps_grow_together(gone):
    """Neighbours that go in any order leave one gap, which holds a buffer of their sizes together."""
    events = [1, 2, 3, 4, *(-k for k in gone), 5, -4, -5]
    assert placed([64, 128, 192, 64, 384], events) == [0, 64, 192, 384, 0]


def test_gaps_that_do_not_touch_stay_apart():
    events = [1, 2, 3, 4, -1, -3, 5, 6, 7, -2, -4, -5, -6, -7]
    at = placed([64, 64, 64, 64, 128, 64, 64], events)
    assert at == [0, 64, 128, 192, 256, 0, 128]
