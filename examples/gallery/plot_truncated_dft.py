"""
A truncated DFT equals an FFT
=============================

A Fourier layer keeps few of the modes that a fast Fourier transform computes. The transform to a few modes is a product with a thin
real matrix: the same numbers, no complex arithmetic, and a form that exports everywhere. `slipstream.operators.FNO` has both forms
of the same weights.
"""

# %%
import time

import matplotlib.pyplot as plt
import torch

import slipstream as ss

torch.manual_seed(0)
torch.set_num_threads(1)
settings = {"n_modes": (12, 12), "in_channels": 1, "out_channels": 1, "hidden_channels": 16, "n_layers": 3}
by_fft = ss.operators.FNO(**settings, form="fft").eval()
by_dft = ss.operators.FNO(**settings, form="dft").eval()
by_dft.load_state_dict(by_fft.state_dict())

# %%
# The same function, up to rounding, on any grid.
points, gaps = (24, 32, 48, 64, 96), []
with torch.inference_mode():
    for n in points:
        x = torch.randn(2, 1, n, n)
        gaps.append(float((by_fft(x) - by_dft(x)).norm() / by_fft(x).norm()))
print(dict(zip(points, (f"{g:.1e}" for g in gaps), strict=True)))
assert max(gaps) < 1e-5

# %%
# Which is faster depends on the machine, the grid, the number of modes, and on who runs it: measure. Here both are eager, in turns,
# on one thread, the best of many. The matrix form gains most where it is compiled or exported.
seconds = {"fft": [float("inf")] * len(points), "dft": [float("inf")] * len(points)}
with torch.inference_mode():
    for i, n in enumerate(points):
        x = torch.randn(2, 1, n, n)
        for _ in range(20):
            for name, model in (("fft", by_fft), ("dft", by_dft)):
                began = time.perf_counter()
                model(x)
                seconds[name][i] = min(seconds[name][i], time.perf_counter() - began)

figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
for name, values in seconds.items():
    axis.loglog(points, [1e3 * s for s in values], "o-", label=name)
axis.set(xlabel="points along each axis", ylabel="ms, two fields, one thread", title="One FNO, two forms")
axis.legend()
plt.show()
