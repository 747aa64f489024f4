"""
Kolmogorov flow: simulate and look
==================================

A shear force drives a periodic square; at Reynolds number 100 the flow is chaotic. The classical solver marches it,
every frame is vorticity, and the reference states how far it can be trusted.
"""

# %%
# A problem is an equation, a domain, a distribution of initial states and a trusted solver.
import matplotlib.pyplot as plt
import torch

import slipstream as ss

problem = ss.problems.KolmogorovFlow(num_points=64, reynolds=100, interval=0.1)
frames = problem.simulate(runs=1, steps=31, seed=0)
print(frames.frames.shape, "(run, time, channel, *space)")

# %%
# One run, three time units long.
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for axis, step in zip(axes, (0, 15, 30), strict=True):
    axis.imshow(frames.frames[0, step, 0].T, origin="lower", cmap="RdBu_r", vmin=-6, vmax=6)
    axis.set(title=f"t = {float(frames.times[step]):.1f}", xticks=[], yticks=[])
figure.suptitle("vorticity")

# %%
# Is that the solution? The trusted solver runs again with twice the points and twice the steps, and the difference is its
# stated error. Whatever is compared with these frames should be at least ten times worse before its figures mean anything.
error = problem.reference_error(frames.frames[:, :1], frames.parameters, steps=10)
print(f"error of the reference: {float(error[0]):.1e} after one frame, {float(error[-1]):.1e} after ten")

# %%
# The flow is chaotic: a state and its copy, nudged by one part in ten thousand, drift apart, by a factor of almost a thousand in 40
# time units. No solver, classical or learnt, can follow one trajectory for ever; its statistics are another matter.
state = frames.frames[:, 0]
noise = torch.randn(state.shape, generator=torch.Generator().manual_seed(0))
both = torch.cat([state, state + 1e-4 * state.std() * noise])[:, None]
one, other = ss.rollout(problem.solver(), both, 400)
distance = (one - other).flatten(1).norm(dim=1) / one.flatten(1).norm(dim=1)

figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.semilogy(problem.interval * torch.arange(1, 401), distance)
axis.set(xlabel="time", ylabel="relative distance", title="Two almost equal states")
plt.show()
