"""
Training without labels, in miniature
=====================================

A network learns to jump four frames ahead from the equation alone: what it predicts is put into the discretised equation, and
what is left over is minimised. No solution is ever shown to it. This is a miniature of ``examples/kolmogorov.yaml``, on waves in one
dimension that steepen into fronts; it is far from converged, and a classical solver is better in every way.
"""

# %%
# NeuralStagger splits the fine grid into two coarse ones and time into four chains, and gives each its own small network.
from functools import partial

import matplotlib.pyplot as plt
import torch

import slipstream as ss

torch.manual_seed(0)
problem = ss.problems.SteepeningWaves(num_points=64, viscosity=0.05, interval=0.005)
unet = partial(ss.operators.UNet, hidden_channels=16, levels=2, output_scale=0.1)
stepper = ss.steppers.Staggered(unet, problem, space=2, time=4, fan=True)
objective = ss.objectives.PhysicsResidual(integrated=True)
training = ss.train(stepper, problem, objective, steps=150, batch=16, lr=5e-3, show=False)
print(f"{training.steps} steps in {training.seconds:.0f} s")

# %%
# The loss is the residual of the equation, in units of the typical rate of change.
rows = training.history
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.semilogy([r["step"] for r in rows], [r["total"] for r in rows])
axis.set(xlabel="training step", ylabel="relative mean square residual")

# %%
# Did a smaller residual mean a smaller error? On runs that it has never seen, beside frames that stand still:
truth = problem.simulate(runs=4, steps=21, seed=1)
forecast = ss.rollout(stepper, truth[:, :1], steps=20)
later = truth[:, 1:].frames


def error(prediction: torch.Tensor) -> torch.Tensor:
    return ((prediction - later).flatten(2).norm(dim=-1) / later.flatten(2).norm(dim=-1)).mean(0)


standing = error(truth[:, :1].frames.expand_as(later))
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
axes[0].plot(truth.times[1:], error(forecast.frames), label="label-free network")
axes[0].plot(truth.times[1:], standing, "--", label="persistence")
axes[0].set(xlabel="time", ylabel="relative L2 error", ylim=(0, None))
axes[0].legend()
x = problem.grid.axes[0].coordinates()
axes[1].plot(x, truth.frames[0, 0, 0], ":", label="start")
axes[1].plot(x, later[0, -1, 0], label="truth")
axes[1].plot(x, forecast.frames[0, -1, 0], "--", label="network")
axes[1].set(xlabel="x", ylabel="velocity", title=f"t = {float(truth.times[-1]):.2f}")
axes[1].legend()
plt.show()
