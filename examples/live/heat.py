"""One-dimensional heat equation u_t = D u_xx on a periodic box of length 1, sent frame by frame to a live ensemble.

The same runs as those of ``heat.c``: 64 points, a parameter "diffusivity", frames 0.01 apart. It is started by the ensemble::

    Programs(["python", "heat.py"], clients=2)
"""

import math

import numpy as np

from slipstream import client

POINTS, INTERVAL = 64, 0.01


def frames(diffusivity: float, seed: int, steps: int):
    """Frames (1, 64), by explicit steps within half the stability limit."""
    dx = 1 / POINTS
    inner = math.ceil(diffusivity * INTERVAL / (0.25 * dx * dx))
    u = np.sin(2 * np.pi * (np.arange(POINTS) * dx + seed % 100 / 100))[None]
    for _ in range(steps):
        yield u
        for _ in range(inner):
            u = u + diffusivity * INTERVAL / inner / (dx * dx) * (np.roll(u, 1, -1) - 2 * u + np.roll(u, -1, -1))


if __name__ == "__main__":
    run = client.run()
    for frame in frames(run.parameters["diffusivity"], run.seed, run.steps):
        client.send(frame)
    client.finish()
