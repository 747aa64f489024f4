"""Solvers for the tests of the Ray engine. They are functions inside functions, so that Ray takes them along by value."""


def rising():
    def frames(member):
        import torch

        for step in range(member.steps):
            yield (member.seed + step + 0.125 * torch.arange(8, dtype=torch.float64)).reshape(1, 8)

    return frames


def failing():
    def frames(member):
        import torch

        yield torch.zeros(1, 8)
        raise ValueError("the Newton iteration did not converge")

    return frames


def stopping():
    def frames(member):
        import torch

        yield torch.zeros(1, 8)

    return frames


def hanging():
    def frames(member):
        import time

        import torch

        yield torch.zeros(1, 8)
        time.sleep(600)

    return frames


def telling():
    """Frames that hold the process in which they were made."""

    def frames(member):
        import os

        import torch

        for step in range(member.steps):
            yield torch.tensor([[float(os.getpid()), float(step)]], dtype=torch.float64)

    return frames


def dying():
    """Kills its process at step 1, whenever."""

    def frames(member):
        import os

        import torch

        yield torch.zeros(1, 8)
        os.kill(os.getpid(), 9)

    return frames


def counting(path):
    """Writes down how far it is."""

    def frames(member):
        import torch

        for step in range(member.steps):
            with open(path, "w") as file:
                file.write(str(step))
            yield torch.zeros(1, 64, 64)

    return frames


def lines():
    """The frames of program.py."""

    def frames(member):
        import torch

        for step in range(member.steps):
            first = member.seed % 1000 + float(member.parameters["rate"]) * step
            yield (first + 0.125 * torch.arange(8, dtype=torch.float64)).reshape(1, 8)

    return frames
