"""A solver program for the tests, with all the faults of solver programs: ``python program.py FAULT STEP``.

``python program.py each STEP`` has all of them, one a run in the order of their names, each at the first attempt only.
"""

import os
import signal
import struct
import sys
import time
from array import array

from slipstream import client

SHAPE = (1, 8)


def frame(seed, rate, step, letter="d"):
    """(1, 8): a value that says which run and which step this is."""
    return (
        memoryview(array(letter, [seed % 1000 + rate * step + 0.125 * i for i in range(8)]))
        .cast("B")
        .cast(letter, SHAPE)
    )


def raw(wire, data):
    wire._write(data)


def nan(wire, good):
    values = array("d", good.tobytes())
    values[3] = float("nan")
    wire.send(memoryview(values).cast("B").cast("d", SHAPE))


def half(wire, good):
    header = client.record(client.FRAME, wire.run, good.cast("B"), wire._step, 2, SHAPE)
    raw(wire, header + good.tobytes()[:20])
    sys.exit(7)


def killed(wire, good):
    print("about to die", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def silent(wire, good):
    print("thinking", flush=True)
    signal.pause()


def endless(wire, good):
    """Good frames, and no end."""
    while True:
        wire.send(frame(wire.run.seed, wire.run.parameters.get("rate", 1.0), wire._step))


def babbling(wire, good):
    while True:
        raw(wire, b"residual = 1.0e-3\n" * 50)


def huge(wire, good):
    """A header that asks for 2^60 bytes."""
    header = bytearray(client.record(client.FRAME, wire.run, b"", wire._step, 2, (1, 1 << 57)))
    header[40:48] = struct.pack("<Q", 1 << 60)
    raw(wire, bytes(header))
    signal.pause()


def corrupt(wire, good):
    header = client.record(client.FRAME, wire.run, good.cast("B"), wire._step, 2, SHAPE)
    raw(wire, header + bytes(good.nbytes))


def late(wire, good):
    """What an earlier attempt would send, and then what is due."""
    now = wire.run
    wire.run = client.Run(now.member, now.attempt - 1, now.seed, now.steps)
    wire._step, due = 0, wire._step
    wire.send(frame(99, 99, 99))
    wire.run, wire._step = now, due
    wire.send(good)


def once(wire, good):
    """Dies at its first attempt, and does well at its second."""
    if wire.run.attempt == 1:
        killed(wire, good)
    wire.send(good)


def leaves_child(wire, good):
    """A child that holds the pipe outlives the program."""
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    sys.exit(3)


def raises(wire, good):
    wire.fail("the Newton iteration did not converge")
    sys.exit(1)


FAULTS = {
    "nan": nan,
    "shape": lambda wire, good: wire.send(memoryview(array("d", [0.0] * 8)).cast("B").cast("d", (8, 1))),
    "half": half,
    "killed": killed,
    "silent": silent,
    "endless": endless,
    "babbling": babbling,
    "huge": huge,
    "corrupt": corrupt,
    "late": late,
    "once": once,
    "leaves child": leaves_child,
    "raises": raises,
    "early end": lambda wire, good: (wire.finish(), sys.exit(0)),
    "exits": lambda wire, good: sys.exit("no licence"),
    "good": lambda wire, good: wire.send(good),
}


class Rising:
    """The same runs from a class that does not know slipstream."""

    def __init__(self, parameters, seed, steps):
        self.rate, self.seed = parameters.get("rate", 1.0), seed

    def __iter__(self):
        step = 0
        while True:
            yield frame(self.seed, self.rate, step)
            step += 1


def main():
    fault, at = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    wire = client._ours()
    run = wire.run
    if fault == "each":
        fault = list(FAULTS)[run.member] if run.attempt == 1 and run.member < len(FAULTS) else "good"
    rate = run.parameters.get("rate", 1.0)
    for step in range(run.steps):
        wire.heartbeat()
        good = frame(run.seed, rate, step)
        FAULTS[fault if step == at else "good"](wire, good)
    client.finish()


if __name__ == "__main__":
    main()
