import inspect
import json
import re
from functools import partial

import pytest

import slipstream as ss
from slipstream.app.citations import Paper, bibliography, papers, read
from slipstream.app.main import main

NOT_FROM_A_PAPER = {
    "Autoregressive", "Folded", "LearnedStepper", "Operator", "PointLaw", "Steady", "Upscaled",
    "PolynomialLaw", "RBF", "SecantLaw", "TableLaw", "AnySize", "Affine", "Held", "LowPass", "Persistence", "MLP", "Multiresolution",
}  # fmt: skip
"""Classes of operators and steppers that are general words or plain engineering."""


def classes():
    """The others."""
    for room in (ss.operators, ss.steppers):
        for name in room.__all__:
            if inspect.isclass(getattr(room, name)) and name not in NOT_FROM_A_PAPER:
                yield getattr(room, name)


@pytest.mark.parametrize("cls", list(classes()), ids=lambda c: c.__name__)
def test_every_published_method_names_its_paper(cls):
    found = papers(cls)
    assert found, (
        f"{cls.__name__} names no source: give its docstring a section References, or add it to NOT_FROM_A_PAPER."
    )
    for paper in found:
        assert re.fullmatch(r"[a-z]+(19|20)\d\d", paper.key)
        assert "et al" not in " ".join(paper.authors)


@pytest.mark.parametrize(
    ("text", "paper"),
    [
        (
            "Li et al., ICLR 2021 (arXiv:2010.08895)",
            Paper(("Li", "others"), "2021", "", "ICLR 2021", "2010.08895"),
        ),
        (
            "He, Liu & Xu, MgNO: Efficient Parameterization of Linear Operators via Multigrid, ICLR 2024 (arXiv:2310.19809).",
            Paper(
                ("He", "Liu", "Xu"),
                "2024",
                "MgNO: Efficient Parameterization of Linear Operators via Multigrid",
                "ICLR 2024",
                "2310.19809",
            ),
        ),
        (
            "Huang, Shi, Liu: NeuralStagger, ICML 2023 (arXiv 2302.10255).",
            Paper(("Huang", "Shi", "Liu"), "2023", "NeuralStagger", "ICML 2023", "2302.10255"),
        ),
        (
            "Kassam & Trefethen, SIAM J. Sci. Comput. 26 (2005) 1214.",
            Paper(("Kassam", "Trefethen"), "2005", "", "SIAM J. Sci. Comput. 26 (2005) 1214"),
        ),
        (
            "van der Vorst, SIAM J. Sci. Stat. Comput. 13 (1992) 631",
            Paper(("van der Vorst",), "1992", "", "SIAM J. Sci. Stat. Comput. 13 (1992) 631"),
        ),
        (
            "the blocks as in Gupta & Brandstetter, TMLR 2023 (arXiv:2209.15616)",
            Paper(("Gupta", "Brandstetter"), "2023", "", "TMLR 2023", "2209.15616"),
        ),
        (
            "Zang & Koutsourelakis, DGenNO (arXiv:2502.06250)",
            Paper(("Zang", "Koutsourelakis"), "2025", "DGenNO", "", "2502.06250"),
        ),
        ("Jordan et al., Muon (2024)", Paper(("Jordan", "others"), "2024", "", "Muon (2024)")),
        ("there with norms over all points of a sample.", None),
        ("coefficients as there", None),
    ],
)
def test_a_reference_is_read(text, paper):
    assert read(text) == paper


def test_bibtex_is_whole_and_keys_are_single():
    class A:
        """Fast.

        References
        ----------
        Li et al., Fast & Slow, ICLR 2021 (arXiv:2010.08895); Li et al., NeurIPS 2021 (arXiv:2012.00001);
        remark without a year.
        """

    class B:
        """Small. Source: Li et al., Fast & Slow, ICLR 2021 (arXiv:2010.08895)."""

    text = bibliography([A, B, int])
    assert text == (
        "% for A, B\n"
        "@misc{li2021,\n  author = {Li and others},\n  title = {{Fast \\& Slow}},\n  howpublished = {ICLR 2021},\n"
        "  year = {2021},\n  eprint = {2010.08895},\n  archiveprefix = {arXiv},\n}\n\n"
        "% for A\n"
        "@misc{li2021b,\n  author = {Li and others},\n  howpublished = {NeurIPS 2021},\n"
        "  year = {2021},\n  eprint = {2012.00001},\n  archiveprefix = {arXiv},\n}"
    )
    assert text.count("{") == text.count("}")


RECIPE = {
    "name": "small",
    "problem": {"class": "KolmogorovFlow", "num_points": 16},
    "models": {
        "a": {
            "stepper": {"class": "Staggered", "space": 2, "time": 2, "operator": {"class": "FNO", "n_modes": [4, 4]}},
            "objective": {"class": "PhysicsResidual"},
            "train": {"steps": 1},
        },
        "b": {
            "stepper": {"class": "Autoregressive", "operator": {"class": "UNet", "levels": 1}},
            "objective": {"class": "PhysicsResidual"},
            "train": {"steps": 1},
        },
    },
}


def test_the_papers_of_a_run(tmp_path, capsys):
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "recipe": RECIPE, "stages": {}}))
    assert main(["cite", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "% for Staggered\n@misc{huang2023,\n  author = {Huang and Shi and" in out
    assert "% for FNO\n@misc{li2021," in out
    assert "% for UNet\n@misc{ronneberger2015," in out
    assert "LSM" not in out


def test_the_papers_of_a_saved_model(tmp_path, capsys):
    problem = ss.problems.KolmogorovFlow(num_points=16)
    unet = partial(ss.operators.UNet, hidden_channels=4, levels=1)
    sizes = ss.problems.Statistics((0.0,), (1.0,), (0.1,))
    stepper = ss.steppers.Staggered(unet, problem, space=2, time=2, statistics=sizes)
    stepper.save_pretrained(tmp_path / "model")
    assert main(["cite", str(tmp_path / "model")]) == 0
    out = capsys.readouterr().out
    assert "@misc{huang2023," in out
    assert "@misc{ronneberger2015," in out
    assert "% for FNO" not in out


def test_cite_refuses_what_is_neither_and_runs_no_strangers_code(tmp_path, capsys):
    assert main(["cite", str(tmp_path)]) == 2
    assert "is no folder of a run or a saved model" in capsys.readouterr().err
    recipe = json.loads(json.dumps(RECIPE))
    recipe["models"]["a"]["stepper"]["operator"] = {"class": "antigravity.Flight"}
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "recipe": recipe, "stages": {}}))
    assert main(["cite", str(tmp_path)]) == 2
    assert "lies outside slipstream" in capsys.readouterr().err
    (tmp_path / "run.json").unlink()
    (tmp_path / "model.json").write_text("{")
    assert main(["cite", str(tmp_path)]) == 1
