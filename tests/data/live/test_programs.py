"""Solver programs as clients: what they send arrives, and what goes wrong with them is told and cleaned up."""

import itertools
import os
import re
import resource
import signal
import socket
import sys
from pathlib import Path

import pytest
import torch

from slipstream.client import FRAME, HELLO, Run, record
from slipstream.data.live import running
from slipstream.data.live.engine import Delivered, Finished, Lost, Member
from slipstream.data.live.programs import Programs, python_client
from slipstream.errors import ForeignCode, InputError

PROGRAM = Path(__file__).with_name("program.py")
SHAPE = (1, 8)


class Clock:
    """Stands still unless it is moved."""

    now = 0.0

    def __call__(self):
        return self.now


def programs(fault="good", at=1, **arguments):
    arguments = {"clock": Clock(), **arguments}
    return Programs([sys.executable, str(PROGRAM), fault, str(at)], **arguments)


def expected(member, step):
    rate = float(member.parameters.get("rate", torch.tensor(1.0)))
    return (member.seed + rate * step + 0.125 * torch.arange(8, dtype=torch.float64)).reshape(SHAPE)


def everything(engine):
    events = []
    while new := engine.poll(wait=True):
        events += new
    return events


def descriptors():
    return set(os.listdir("/proc/self/fd"))


def group_is_there(number):
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(params=["pipe", "socket"])
def transport(request):
    return request.param


def member(number=0, steps=4, **parameters):
    return Member(number, 10 + number, {k: torch.tensor(v) for k, v in parameters.items()}, steps)


def test_frames_arrive_to_the_bit_in_order_and_then_the_end(transport):
    runs = [member(i, steps=5, rate=0.5 + i) for i in range(5)]
    with_closed = programs(clients=2, transport=transport)
    with_closed.submit(runs)
    events = everything(with_closed)
    with_closed.close()
    for run in runs:
        own = [e for e in events if e.member == run.number]
        assert [e.step for e in own[:-1]] == [0, 1, 2, 3, 4]
        assert own[-1] == Finished(run.number)
        for e in own[:-1]:
            assert e.frame.dtype == torch.float64
            assert torch.equal(e.frame, expected(run, e.step))
            assert e.seconds >= 0


FAULTS = {
    "nan": "frame 1 holds numbers that are not finite",
    "shape": r"expected frames of shape \(1, 8\); frame 1 has shape \(8, 1\)",
    "half": r"exit status 7 in the middle of a record \(116 bytes of it came\) after 1 of 4 frames",
    "killed": "killed by SIGKILL after 1 of 4 frames.*about to die",
    "babbling": "expected a record, which begins with b'SLIP'; got b'residual = 1.0e",
    "huge": "bytes; at most 1073741824 are accepted",
    "corrupt": "checksum of a record of kind 1",
    "leaves child": "exit status 3 after 1 of 4 frames",
    "raises": "gave up after 1 of 4 frames: the Newton iteration did not converge",
    "early end": "said that it had finished after 1 of 4 frames",
    "exits": "exit status 1 after 1 of 4 frames.*no licence",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_loses_the_run_with_its_reason_and_leaves_nothing(fault, transport):
    before = descriptors()
    engine = programs(fault, transport=transport)
    engine.submit([member()])
    events = everything(engine)
    engine.close()
    assert [type(e) for e in events] == [Delivered, Lost]
    assert events[0].step == 0
    assert re.search(FAULTS[fault], events[1].reason.replace("\n", " "))
    assert descriptors() <= before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_an_endless_stream_ends_where_the_run_does():
    engine = programs("endless")
    engine.submit([member()])
    events = everything(engine)
    assert [type(e) for e in events] == [Delivered] * 4 + [Lost]
    assert "expected no more than 4 frames" in events[-1].reason
    engine.close()


def test_a_silent_program_is_given_up_when_its_time_is_over_and_not_before():
    clock = Clock()
    engine = programs("silent", clock=clock, timeout=60.0)
    engine.submit([member()])
    (first,) = engine.poll(wait=True)
    assert first.step == 0
    (client,) = engine._running.values()
    while b"thinking" not in client.tail:
        assert engine.poll() == []
    clock.now = 60.0
    assert engine.poll() == []
    clock.now = 60.1
    (lost,) = engine.poll()
    assert lost.reason.startswith("the program has been silent for 60.1 s after 1 of 4 frames (timeout=60)")
    assert "It said last: thinking" in lost.reason
    engine.close()


def test_a_waiting_poll_gives_up_a_silent_program_too():
    engine = programs("silent", at=0, clock=itertools.count(step=20).__next__, timeout=100.0)
    engine.submit([member()])
    (lost,) = engine.poll(wait=True)
    assert "silent" in lost.reason
    engine.close()


@pytest.mark.parametrize("gulp", [1 << 22, 100])
def test_what_has_been_sent_while_nobody_looked_is_no_silence(gulp, monkeypatch):
    """However little is read from one program at a time."""
    monkeypatch.setattr(running, "GULP", gulp)
    clock = Clock()
    engine = programs(clock=clock, timeout=60.0)
    engine.submit([member()])
    (client,) = engine._running.values()
    client.process.wait()
    clock.now = 1e6
    assert [type(e) for e in everything(engine)] == [Delivered] * 4 + [Finished]
    engine.close()


def test_a_lost_run_that_is_submitted_again_starts_from_its_beginning(transport):
    run = member(rate=2.0)
    engine = programs("once", at=2, transport=transport)
    engine.submit([run])
    first = everything(engine)
    assert [type(e) for e in first] == [Delivered, Delivered, Lost]
    engine.submit([run])
    second = everything(engine)
    assert [type(e) for e in second] == [Delivered] * 4 + [Finished]
    assert all(torch.equal(a.frame, b.frame) for a, b in zip(first[:2], second[:2], strict=True))
    engine.close()


def test_frames_of_an_earlier_attempt_are_dropped(transport):
    engine = programs("late", transport=transport)
    run = member()
    engine.submit([run])
    events = everything(engine)
    assert [type(e) for e in events] == [Delivered] * 4 + [Finished]
    assert all(torch.equal(e.frame, expected(run, e.step)) for e in events[:4])
    engine.close()


def knock(engine, said):
    """Connect to the engine's door and say something."""
    host, port = engine._door.address.removeprefix("tcp:").split(":")
    stranger = socket.create_connection((host, int(port)))
    stranger.sendall(said)
    stranger.setblocking(False)
    return stranger


def turned_away(engine, stranger):
    """Whether the connection is closed, however long that takes."""
    with stranger:
        while True:
            engine.poll()
            try:
                return stranger.recv(1) == b""
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return True


def hello(token):
    return record(HELLO, Run(0, 1, 0, 4), token.encode()) + token.encode()


def test_strangers_at_the_door_do_not_take_the_place_of_a_program():
    engine = programs("once", transport="socket")
    engine.submit([member()])
    earlier = next(iter(engine._running.values())).token
    assert isinstance(everything(engine)[-1], Lost)
    said = [b"GET / HTTP/1.1\r\n" * 20, hello(""), hello("t\u00f6ken"), hello(earlier)]
    strangers = [knock(engine, s) for s in said]
    engine.submit([member()])  # who has knocked before is asked first
    assert [type(e) for e in everything(engine)] == [Delivered] * 4 + [Finished]
    assert all(turned_away(engine, s) for s in strangers)
    engine.close()


def test_the_end_of_one_program_turns_no_other_away():
    """It may be connecting at the very moment at which the first is found to have ended."""
    ends_or_waits = (
        "import json, os, sys, time; time.sleep(600 * json.load(open(os.environ['SLIPSTREAM_MEMBER']))['member'])"
    )
    engine = Programs([sys.executable, "-c", ends_or_waits], clients=2, transport="socket", clock=Clock())
    engine.submit([member(0), member(1)])
    first, second = engine._running.values()
    first.process.wait()
    connection = knock(engine, hello(second.token))
    engine._follow(first)
    assert second.token is None, "connected"
    connection.close()
    engine.close()


def test_a_token_is_good_for_one_connection():
    engine = programs("silent", transport="socket")
    engine.submit([member()])
    (client,) = engine._running.values()
    token = client.token
    assert [type(e) for e in engine.poll(wait=True)] == [Delivered]
    connection = client.frames
    assert turned_away(engine, knock(engine, hello(token)))
    assert client.frames == connection
    engine.close()


def test_an_inherited_pipe_does_not_keep_a_dead_program_alive():
    engine = programs("leaves child")
    engine.submit([member()])
    client = next(iter(engine._running.values()))
    everything(engine)
    while group_is_there(client.process.pid):  # the kernel may need a moment to bury the child that was killed with it
        pass
    engine.close()


def test_programs_wait_while_nobody_polls():
    """A pipe holds two frames of known shape, rounded up to the system's page; nothing else does."""
    shape = (1, 32, 32)  # sixteen of them would fit into the 64 kB that a pipe holds otherwise
    code = (
        "import sys; from slipstream import client; from array import array\n"
        "data = memoryview(array('f', [0.0] * 1024)).cast('B').cast('f', (1, 32, 32))\n"
        "for i in range(client.run().steps):\n    print(i, file=sys.stderr, flush=True); client.send(data)\n"
        "client.finish()"
    )
    engine = Programs([sys.executable, "-c", code], shape=shape, clock=Clock())
    engine.submit([member(steps=50)])
    client = next(iter(engine._running.values()))
    state = Path(f"/proc/{client.process.pid}/wchan")
    while "pipe_write" not in state.read_text() and client.process.poll() is None:
        pass
    client.listen(0.0)
    assert int(client.tail.split()[-1]) <= 3
    assert len(everything(engine)) == 51
    engine.close()


def test_clients_are_never_more_than_asked_for_and_grow_and_shrink():
    engine = programs("silent", at=0, clients=1, timeout=1e9)
    engine.submit([member(i) for i in range(6)])
    assert list(engine._running) == [0]
    engine.resize(3)
    engine.poll()
    assert list(engine._running) == [0, 1, 2]
    engine.resize(1)
    engine.poll()
    assert list(engine._running) == [0, 1, 2]
    engine.cancel([0, 1])
    engine.poll()
    assert list(engine._running) == [2]
    engine.cancel([2])
    engine.poll()
    assert list(engine._running) == [3]
    engine.close()


def test_an_engine_that_is_forgotten_ends_its_programs():
    before = descriptors()
    engine = programs("silent", at=0, clients=2)
    engine.submit([member(0), member(1)])
    del engine
    assert descriptors() <= before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_no_frame_goes_to_disk():
    """With a limit of 4 kB a file, here and in the programs, 200 frames of 160 bytes could not pass through any."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        engine = programs(clients=2)
        engine.submit([member(i, steps=200) for i in range(3)])
        events = everything(engine)
        engine.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sum(isinstance(e, Delivered) for e in events) == 600


def test_a_class_that_knows_nothing_of_us_is_a_client():
    command = python_client("program:Rising", allow=("program",))
    engine = Programs(command, cwd=PROGRAM.parent, clock=Clock())
    run = member(rate=3.0)
    engine.submit([run])
    events = everything(engine)
    assert [type(e) for e in events] == [Delivered] * 4 + [Finished]
    assert all(torch.equal(e.frame, expected(run, e.step)) for e in events[:4])
    engine.close()


def test_a_class_of_a_package_that_is_not_allowed_is_refused_here_and_in_the_client():
    with pytest.raises(ForeignCode, match="allow=\\('program',\\)"):
        python_client("program:Rising")
    engine = Programs([sys.executable, "-m", "slipstream.client", "program:Rising"], cwd=PROGRAM.parent, clock=Clock())
    engine.submit([member()])
    (lost,) = everything(engine)
    assert "gave up after 0 of 4 frames: ForeignCode" in lost.reason
    engine.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"command": "solver --quiet"}, "list of words"),
        ({"command": ["/no/such/solver"]}, "no program"),
        ({"clients": 0}, "clients >= 1"),
        ({"timeout": 0.0}, "timeout > 0"),
    ],
)
def test_arguments_that_make_no_engine_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Programs(**{"command": [sys.executable], **arguments})


def test_parameters_that_cannot_be_sent_are_refused_before_anything_starts():
    engine = programs()
    with pytest.raises(InputError, match="member 3"):
        engine.submit([member(3, rate=float("inf"))])
    assert not engine._running
    engine.close()
    with pytest.raises(InputError, match="closed"):
        engine.submit([member()])


SEND = "client.send(memoryview(array('d', [0.0] * 8)).cast('B').cast('d', (1, 8)))"


def python(*lines, **arguments):
    """Programs that run these lines."""
    code = "\n".join(["import signal", "from array import array", "from slipstream import client", *lines])
    return Programs([sys.executable, "-c", code], **{"clock": Clock(), **arguments})


@pytest.mark.parametrize("line", [SEND, "print('residual = 1.0e-3', flush=True)"], ids=["sends", "prints"])
def test_time_begins_anew_with_whatever_a_program_sends_or_prints(line):
    clock = Clock()
    engine = python(line, "signal.pause()", clock=clock, timeout=60.0)
    engine.submit([member()])
    (client,) = engine._running.values()
    clock.now = 50.0
    while not (client.step or client.tail):
        engine.poll()
    clock.now = 110.0
    assert engine.poll() == []
    clock.now = 110.1
    (lost,) = engine.poll()
    assert lost.reason.startswith("the program has been silent for 60.1 s")
    engine.close()


def test_a_program_that_has_sent_its_end_keeps_its_place_until_it_has_left_or_its_time_is_over():
    clock = Clock()
    engine = python(SEND, "client.finish()", "signal.pause()", clock=clock, timeout=60.0)
    engine.submit([member(0, steps=1), member(1, steps=1)])
    events = []
    while Finished(0) not in events:
        events += engine.poll(wait=True)
    (leaving,) = engine._leaving
    assert not engine._running
    clock.now = 60.0
    assert engine.poll() == []
    assert engine._leaving == [leaving]
    clock.now = 60.1
    engine.poll()
    assert leaving.process.returncode == -signal.SIGKILL
    assert list(engine._running) == [1]
    engine.close()


def test_a_run_that_is_submitted_while_it_is_under_way_begins_anew_and_its_first_program_ends():
    engine = programs("silent", at=0, clients=2)
    engine.submit([member()])
    (first,) = engine._running.values()
    engine.submit([member()])
    (second,) = engine._running.values()
    assert first.process.returncode == -signal.SIGKILL
    assert second.attempt == 2
    engine.close()


def test_the_first_frame_fixes_the_shape_of_all_that_follow():
    engine = programs()
    engine.submit([member(0)])
    assert everything(engine)[-1] == Finished(0)
    engine.command = (*engine.command[:2], "shape", "0")
    engine.submit([member(1)])
    (lost,) = everything(engine)
    assert "expected frames of shape (1, 8); frame 0 has shape (8, 1)" in lost.reason
    engine.close()


def test_the_last_words_are_the_last_of_many():
    engine = python("print('x' * 5000, 'the end', flush=True)", "raise SystemExit(1)")
    engine.submit([member()])
    (lost,) = everything(engine)
    assert lost.reason.endswith("xx the end")
    assert len(lost.reason) < running.TAIL + 200
    engine.close()


def test_a_stranger_who_says_nothing_is_turned_away_when_his_time_is_over():
    clock = Clock()
    engine = programs(transport="socket", clock=clock, timeout=60.0)
    stranger = knock(engine, b"")
    while not engine._door._strangers:
        engine.poll()
    clock.now = 60.0
    engine.poll()
    assert engine._door._strangers
    clock.now = 60.1
    engine.poll()
    assert not engine._door._strangers
    assert turned_away(engine, stranger)
    engine.close()


def test_a_stranger_is_turned_away_at_the_first_header_that_holds_no_token():
    """Nobody waits for what he would send, or makes room for it."""
    engine = programs(transport="socket")
    stranger = knock(engine, record(FRAME, Run(0, 1, 0, 4), bytes(64), 0, 2, SHAPE))
    engine.poll()
    assert not engine._door._strangers
    assert turned_away(engine, stranger)
    engine.close()
