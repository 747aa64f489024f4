"""Lets FreeFEM compute runs of a live ensemble: starts it for one run, reads the frames it prints, and sends them on.

The lid-driven cavity of ``cavity.edp``: channels u and v on ``--points`` x ``--points`` positions, walls included, first axis x; a
parameter "reynolds"; frames ``--interval`` apart, the first at rest. It is started by the ensemble::

    Programs(["python", "cavity.py", "--points", "33"], clients=2)
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from slipstream import client

SCRIPT = Path(__file__).with_name("cavity.edp")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=33, help="positions along each axis")
    parser.add_argument("--interval", type=float, default=0.5, help="time between frames")
    parser.add_argument("--inner", type=int, default=5, help="time steps an interval")
    parser.add_argument("--cells", type=int, default=20, help="finite elements along each axis")
    chosen = parser.parse_args()
    run = client.run()
    given = {"Re": run.parameters["reynolds"], "steps": run.steps, **vars(chosen)}
    words = [word for name, value in given.items() for word in (f"-{name}", str(value))]
    command = ["FreeFem++", "-nw", "-v", "0", str(SCRIPT), *words]
    said = ""
    # The solver belongs to this process's group, which the ensemble ends as a whole.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as solver:
        assert solver.stdout is not None
        for line in solver.stdout:
            if line.startswith("frame"):
                values = [np.array(solver.stdout.readline().split(), dtype=float) for _ in "uv"]
                shape = (2, chosen.points, chosen.points)
                client.send(np.stack(values).reshape(shape).transpose(0, 2, 1))  # printed with y slowest
            elif line.startswith("step"):
                client.heartbeat()
            elif line.strip():
                said = line.strip()
    if solver.returncode or said != "end":
        client.fail(f"FreeFEM ended with status {solver.returncode}: {said}")
        return 1
    client.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
