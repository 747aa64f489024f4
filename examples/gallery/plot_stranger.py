"""
A model made elsewhere, verified
================================

`slipstream.steppers.wrap` makes any callable a stepper, and `slipstream.verify` treats it like one of the house: unseen runs
of the trusted solver, the same baselines, and a race against the classical solver at equal error.

The stranger here is deliberately modest: it carries each wavenumber on as it went between the last two frames, by a linear map
that is fitted by least squares. That is a diagonal dynamic mode decomposition, and it knows nothing of the equation.
"""

# %%
import matplotlib.pyplot as plt
import torch

import slipstream as ss

problem = ss.problems.KolmogorovFlow(num_points=32, reynolds=40, interval=0.05)
seen = problem.simulate(runs=4, steps=40, seed=0).frames
u = torch.fft.rfft2(seen)
a, b = u[:, :-1], u[:, 1:]
factor = (b * a.conj()).sum((0, 1)) / a.abs().square().sum((0, 1)).clamp(min=1e-12)


def stranger(w: torch.Tensor) -> torch.Tensor:
    """(batch, channel, x, y) to the next frame; it might as well be a network of another package."""
    return torch.fft.irfft2(factor * torch.fft.rfft2(w), s=w.shape[-2:])


# %%
# It needs to say how far it jumps and what its channels are, nothing else.
theirs = ss.steppers.wrap(stranger, interval=0.05, channels=["vorticity"])
report = ss.verify(theirs, problem, runs=2, steps=20)
print(report.verdict)

# %%
# Every figure is there, beside what anybody could have said for free.
figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
for arm, metrics in report.metrics.items():
    axis.plot(report.times, metrics["relative_l2"], label=arm.replace("_", " "), lw=2.5 if arm == "model" else 1)
axis.set(xlabel="time", ylabel="relative L2 error", yscale="log", title="The stranger among the baselines")
axis.legend(fontsize=8)
plt.show()

# %%
# ``report.save("report.html")`` writes the whole page: spectra, invariants, the ladder of classical settings.
print(report.to_json()[:60], "...")
