"""The wire protocol: what is written is read back, in pieces of any size, and what was never written is refused."""

import json
import math
import struct
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slipstream import client
from slipstream.client import CHECKSUM, END, FAILURE, FRAME, HEADER, HEARTBEAT, HELLO, Run, record
from slipstream.data.live.engine import Member
from slipstream.data.live.protocol import Parser, Unreadable, question
from slipstream.errors import ForeignCode, InputError
from slipstream.pretrained import find_class

RUN = Run(member=(1 << 40) + 3, attempt=2, seed=5, steps=9)
FINITE = {"allow_nan": False, "allow_infinity": False}
FRAMES = st.sampled_from([(np.float32, 1, 32), (np.float64, 2, 64)]).flatmap(
    lambda k: hnp.arrays(k[0], hnp.array_shapes(max_dims=6, max_side=4), elements=st.floats(width=k[2], **FINITE))
)


def sent(array, step=0):
    payload = memoryview(np.ascontiguousarray(array)).cast("B")
    kind = 1 if array.dtype == np.float32 else 2
    return record(FRAME, RUN, payload, step, kind, array.shape, 0.25) + payload.tobytes()


@given(frames=st.lists(FRAMES, min_size=1, max_size=3), data=st.data())
def test_what_is_sent_is_read_in_pieces_of_any_size(frames, data):
    stream = b"".join(sent(f, i) + record(HEARTBEAT, RUN) for i, f in enumerate(frames))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parser, found = Parser(), []
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += parser.feed(stream[a:b])
    assert [r.header.kind for r in found] == [FRAME, HEARTBEAT] * len(frames)
    assert parser.pending == 0
    for i, (frame, got) in enumerate(zip(frames, found[::2], strict=True)):
        assert torch.equal(got.frame, torch.from_numpy(frame))
        assert (got.header.member, got.header.attempt, got.header.step) == (RUN.member, RUN.attempt, i)
        assert got.header.seconds == 0.25


@given(frame=FRAMES, data=st.data())
def test_a_changed_bit_is_never_read(frame, data):
    stream = bytearray(sent(frame))
    bit = data.draw(st.integers(0, 8 * len(stream) - 1))
    stream[bit // 8] ^= 1 << bit % 8
    with suppress(Unreadable):
        assert list(Parser().feed(bytes(stream))) == []


@given(noise=st.binary(max_size=400))
def test_noise_is_refused_at_its_first_header_and_nothing_else_happens(noise):
    parser = Parser()
    if len(noise) < HEADER.size:
        assert list(parser.feed(noise)) == []
        assert parser.pending == len(noise)
    else:
        with pytest.raises(Unreadable):
            list(parser.feed(noise))


def test_the_header_is_the_struct_that_the_manual_describes():
    """Offsets by hand, against the one line of `struct` that both halves use."""
    payload = np.arange(6, dtype="<f4").reshape(1, 2, 3)
    data = sent(payload, step=7)
    assert len(data) == 96 + 24
    assert data[0:4] == b"SLIP"
    assert struct.unpack("<HH", data[4:8]) == (1, FRAME)
    assert struct.unpack("<Q", data[8:16]) == (RUN.member,)
    assert struct.unpack("<II", data[16:24]) == (2, 7)
    assert struct.unpack("<BBH", data[24:28]) == (1, 3, 0)
    assert struct.unpack("<d", data[32:40]) == (0.25,)
    assert struct.unpack("<Q", data[40:48]) == (24,)
    assert struct.unpack("<6Q", data[48:96]) == (1, 2, 3, 0, 0, 0)
    assert struct.unpack("<6f", data[96:]) == (0, 1, 2, 3, 4, 5)
    blank = data[:28] + bytes(4) + data[32:]
    crc = 0xFFFFFFFF  # CRC-32 by its definition, bit by bit
    for byte in blank:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
    assert struct.unpack("<I", data[28:32]) == (crc ^ 0xFFFFFFFF,)


def patched(offset, form, *values):
    data = bytearray(sent(np.ones((2, 3), np.float32)))
    struct.pack_into(form, data, offset, *values)
    return bytes(data)


WRONG = {
    "magic": (patched(0, "<4s", b"HDF\r"), "begins with b'SLIP'"),
    "version": (patched(4, "<H", 2), "version 2"),
    "kind": (patched(6, "<H", 9), "kind 9"),
    "dtype": (patched(24, "<B", 7), "dtype 7"),
    "axes": (patched(25, "<B", 200), "200 axes"),
    "no axes": (patched(25, "<B", 0), "inconsistent"),
    "reserved": (patched(26, "<H", 1), "inconsistent"),
    "length": (patched(40, "<Q", 23), "has 24 bytes, but its header speaks of 23"),
    "empty": (patched(40, "<QQ", 0, 0), "has 0 bytes"),
    "seconds": (patched(32, "<d", math.nan), "took nan s"),
    "negative seconds": (patched(32, "<d", -0.25), "took -0.25 s"),
    "large": (patched(40, "<QQQ", 1 << 32, 1 << 15, 1 << 15), "at most 1073741824"),
    "overflow": (patched(40, "<QQQ", 24, 1 << 63, 1 << 63), "but its header speaks of 24"),
    "long text": (record(FAILURE, RUN, bytes(5000)), "at most 4096"),
    "beat with load": (record(HEARTBEAT, RUN, b"x"), "at most 0"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_header_that_nobody_can_have_meant_is_refused_before_room_is_made(fault, monkeypatch):
    data, message = WRONG[fault]
    parser = Parser()
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("room was made for what is refused"))
    with pytest.raises(Unreadable, match=message):
        list(parser.feed(data[:96]))


def test_room_is_never_more_than_the_record_at_hand():
    parser = Parser()
    data = sent(np.ones((2, 3), np.float32))
    assert parser.room().nbytes == 96
    list(parser.feed(data[:96]))
    assert parser.room().nbytes == 24
    list(parser.feed(data[96:110]))
    assert parser.room().nbytes == 10
    assert parser.pending == 110


def test_text_in_the_stream_is_text_and_nothing_else():
    wicked = "\x1b]0;title\x07 __import__('os').system('true') \udc80".encode(errors="surrogateescape")
    (found,) = Parser().feed(record(FAILURE, RUN, wicked) + wicked)
    assert found.text == wicked.decode(errors="replace")


def test_a_member_is_one_line_of_json_without_any_number_that_json_lacks():
    member = Member(3, 17, {"nu": torch.tensor(0.25), "field": torch.tensor([[1.0, 2.0]])}, 5)
    line = question(member, 2)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert Run(**json.loads(line)) == Run(3, 2, 17, 5, {"nu": 0.25, "field": [[1.0, 2.0]]})
    with pytest.raises(ValueError, match="JSON"):
        question(Member(0, 0, {"nu": torch.tensor(math.nan)}), 1)


@pytest.fixture
def wire(tmp_path):
    """A sender into a file, as a client that is tried alone has it; and what it has sent."""
    (tmp_path / "member").write_bytes(question(Member(4, 1, {"nu": torch.tensor(0.5)}, 3), 1))
    out = tmp_path / "frames"
    sender = client.Sender({client.FRAMES: str(out), client.MEMBER: str(tmp_path / "member")})
    return sender, lambda: list(Parser().feed(out.read_bytes()))


def test_a_python_client_sends_what_it_is_given(wire):
    sender, records = wire
    array = np.random.default_rng(0).normal(size=(2, 4, 6))
    sender.heartbeat()
    sender.heartbeat()
    sender.send(array[:, ::2].astype(np.float32))
    sender.send(torch.from_numpy(array))
    sender.finish()
    found = records()
    assert [r.header.kind for r in found] == [HEARTBEAT, FRAME, FRAME, END]
    assert torch.equal(found[1].frame, torch.from_numpy(array[:, ::2].astype(np.float32)))
    assert torch.equal(found[2].frame, torch.from_numpy(array))
    assert [r.header.step for r in found[1:3]] == [0, 1]


@pytest.mark.parametrize("frame", [np.ones(3, np.int32), np.float64(1.0), np.ones((1,) * 7), np.ones(2, ">f8")])
def test_a_python_client_refuses_what_is_no_frame(wire, frame):
    with pytest.raises(InputError, match="float32 or float64"):
        wire[0].send(frame)


def test_a_client_that_nobody_has_started_says_so():
    with pytest.raises(InputError, match="started by a live ensemble"):
        client.Sender({})


def test_the_client_starts_without_torch_and_numpy():
    code = "import sys, slipstream.client; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("module", "name", "allow"),
    [
        ("slipstream.grids", "Grid", ()),
        ("slipstream.errors", "SlipstreamError", ("json",)),
        ("json.decoder", "JSONDecoder", ()),
        ("json.decoder", "JSONDecoder", ("json",)),
        ("json.decoder", "JSONDecoder", ("js",)),
        ("json.decoder", "scanner", ("json",)),
        ("json.decoder", "nothing", ("json",)),
        ("json.nowhere", "Class", ("json",)),
        ("slipstream.client", "socket", ()),
        ("slipstream.client", "RawIOBase", ()),
        ("slipstreamer.evil", "Class", ()),
    ],
)
def test_the_allow_list_is_that_of_the_house(module, name, allow):
    def outcome(find, path):
        try:
            return find(path, allow)
        except (ForeignCode, InputError) as error:
            return type(error)

    assert outcome(client.find_solver, f"{module}:{name}") == outcome(find_class, f"{module}.{name}")


def test_hello_is_a_record_of_its_own():
    (found,) = Parser().feed(record(HELLO, RUN, b"token") + b"token")
    assert (found.header.kind, found.text) == (HELLO, "token")
    assert HEADER.size == 96
    assert CHECKSUM == 28
