"""`slipstream fit`: a file, a sentence, a folder."""

from __future__ import annotations

import numpy as np

from slipstream.app.main import main
from slipstream.stepper import Stepper


def test_a_file_becomes_a_model_and_a_report(tmp_path, capsys):
    x = np.arange(16) * 0.5
    t = np.arange(30) * 0.1
    np.savez(tmp_path / "wave.npz", x=x, t=t, u=np.sin(2 * np.pi * (x[None] / 8 - t[:, None])))
    out = tmp_path / "kept"
    assert main(["fit", str(tmp_path / "wave.npz"), "--minutes", "0.005", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "u: 1 run, 30 times 0 to 2.9, 1 channel, x 16 points in [0, 8) periodic" in text
    assert "is the best" in text
    assert f"report: {out / 'report.html'}" in text
    assert (out / "report.html").exists()
    Stepper.from_pretrained(out)


def test_an_ambiguous_file_is_refused_before_any_work_and_an_option_settles_it(tmp_path, capsys):
    np.savez(
        tmp_path / "square.npz", x=np.arange(16.0), t=np.arange(16.0), u=np.random.default_rng(0).normal(size=(16, 16))
    )
    words = ["fit", str(tmp_path / "square.npz"), "--minutes", "0.005", "--out", str(tmp_path / "kept")]
    assert main(words) == 2
    assert "axes='t x'" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()
    assert main([*words, "--axes", "t x"]) == 0
