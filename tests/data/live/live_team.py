"""Trainings of two processes that share the runs of an ensemble, to be started by torchrun."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from live_training import LINE, command, counted, line_stepper

from slipstream.data import FIFO, Programs
from slipstream.objectives import Supervised
from slipstream.training.callbacks import Callback
from slipstream.training.loop import train

RUNS = 8


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, run):
        if run.step == self.step:
            run.stop("enough")


def go(folder, stop=-1):
    engine = Programs(command(), clients=2)
    source = counted(engine, RUNS, batch=5, buffer=FIFO(30))
    stepper = line_stepper()
    done = train(
        stepper, source, Supervised(), steps=1000, lr=1e-6, folder=folder, callbacks=[StopAt(stop)], show=False
    )
    engine.close()
    return stepper, source, done


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    stepper, source, done = go(folder / "whole")
    _, _, stopped = go(folder / "parts", 2)
    _, again, _ = go(folder / "parts")
    found = {
        "seen": source.seen,
        "again": again.seen,
        "steps": [done.steps, stopped.steps],
        "frames": [source.counters.frames, again.counters.frames],
        "problem": LINE.name,
    }
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    torch.save(stepper.state_dict(), folder / f"weights-{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
