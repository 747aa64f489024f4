"""Our operators beside the code that their authors published: one forward pass and one training step.

The authors' code is not ours to pass on. Clone it into a folder, all or some of it, and name the folder::

    git clone https://github.com/xlliu2017/MgNO                     # 3a68a900bccc
    git clone https://github.com/thuml/Latent-Spectral-Models       # d5a0b409ecf5
    git clone https://github.com/divelab/AIRS                       # 4a16c68a7da7, for SineNet
    git clone https://github.com/camlab-ethz/poseidon               # b8fa28f59bd7
    pip install "transformers==4.29.2"                              # which Poseidon asks for
    python benchmarks/authors.py --folder FOLDER

Behind each stands the commit that was compared here (``git checkout`` it). Seven minutes on two quiet cores. Writes
``benchmarks/results/authors.json``, which names what was missing; where all is missing it writes nothing.

Of theirs only the files that define the models are loaded, from where they lie. Both sides are built alike as far as their constructors
go (width, levels, depth, ends of the domain): fields of 64 x 64 points, four at a time, float32, each in the layout that its network takes.
Where both are one network, ours is given their weights, and the answers must agree before anything is timed. Timed eagerly, in one process,
in turn; the shortest round of each counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _authors import CASES, Side
from _turns import by_threads, pin

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.assessment.evidence import Claim

QUESTION = "Are our operators at least as fast as the code of their authors, applied and trained?"
RESULT = Path(__file__).parent / "results" / "authors.json"
FILES = ("authors.py", "_authors.py", "_turns.py")
SPEED = 1.0
"""Least speed relative to the authors' code."""
AGREEMENT = 1e-4
"""Largest difference, relative to the largest value, where both are one network."""
PARAMETERS = 0.1
"""Difference in the number of parameters, relative to theirs, from which on a case has to say what differs."""


def measure(name: str, folder: Path, seconds: float) -> Iterator[dict[str, Any]]:
    """Both networks of a case, applied and trained."""
    import torch

    from slipstream.assessment.speed import race

    torch.manual_seed(0)
    case = CASES[name]
    sides = case.sides(folder)
    parameters = {key: sum(p.numel() for p in side.model.parameters()) for key, side in sides.items()}
    row: dict[str, Any] = {
        "case": name,
        "threads": torch.get_num_threads(),
        "parameters": parameters,
        "apart": case.apart,
    }
    if abs(parameters["ours"] / parameters["theirs"] - 1) > PARAMETERS and not case.apart:
        raise SystemExit(f"{name}: parameters are {parameters}, and the case does not say why.")
    for side in sides.values():
        side.model.eval()
    with torch.inference_mode():
        answers = {key: side() for key, side in sides.items()}
        if case.same:
            apart = (answers["ours"] - answers["theirs"]).abs().max() / answers["theirs"].abs().max()
            row["difference"] = float(apart)
            if not row["difference"] <= AGREEMENT:
                raise SystemExit(f"{name}: the answers differ by {apart:.1e}; nothing was timed.")
        times = race(sides, rounds=10_000, budget=seconds)
    yield {**row, "what": "forward pass", "milliseconds": {key: 1e3 * t for key, t in times.items()}}
    steps = {key: training_step(side, answers[key]) for key, side in sides.items()}
    times = race(steps, rounds=10_000, budget=seconds)
    yield {**row, "what": "training step", "milliseconds": {key: 1e3 * t for key, t in times.items()}}


def training_step(side: Side, like: Tensor) -> Callable[[], object]:
    """The mean square distance from other fields, its gradient, a step of Adam."""
    import torch

    target = torch.randn(like.shape, generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.Adam(side.model.train().parameters(), 1e-4)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        (side() - target).square().mean().backward()
        optimiser.step()

    return step


def work(threads: int, folder: Path, seconds: float, names: Sequence[str]) -> None:
    """The cases with one number of threads; two lines of JSON each."""
    pin(threads)
    import torch

    torch.set_num_threads(threads)
    for name in names:
        for row in measure(name, folder, seconds):
            print(json.dumps(row), flush=True)


def claims(rows: list[dict[str, Any]]) -> Iterator[Claim]:
    from slipstream.assessment.evidence import Claim

    for name in dict.fromkeys(row["case"] for row in rows if CASES[row["case"]].same):
        own = [row for row in rows if row["case"] == name]
        worst = max(row["difference"] for row in own)
        more = max(abs(row["parameters"]["ours"] - row["parameters"]["theirs"]) for row in own)
        yield Claim(f"{name}: with their weights ours is the same map.", "law", worst, AGREEMENT, "at most")
        yield Claim(f"{name}: as many parameters as theirs.", "law", more, 0, "at most")
    for row in rows:
        t, where = row["milliseconds"], f"{row['case']}, {row['what']}, {row['threads']} thread(s)"
        speed = t["theirs"] / t["ours"]
        yield Claim(f"{where}: at least as fast as the authors' code.", "effect", speed, SPEED, "at least")


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--folder", type=Path, required=True, help="where the authors' repositories were cloned to")
    parser.add_argument("--seconds", type=float, default=20.0, help="for a case applied, and as many for it trained")
    parser.add_argument("--cases", nargs="+", choices=CASES, help="only these: a look, no evidence; writes nothing")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument(
        "--dirty", action="store_true", help="let code through that is in no commit; the result is marked"
    )
    arguments = parser.parse_args()
    wanted, folder = arguments.cases or list(CASES), arguments.folder.resolve()
    if arguments.threads:
        return work(arguments.threads, folder, arguments.seconds, wanted)

    from slipstream.assessment.evidence import PACKAGE, commit_of, committed, evidence, save

    files = [Path(__file__).with_name(name) for name in FILES]
    commit = committed(PACKAGE, *files, dirty=arguments.dirty or arguments.cases is not None)
    missing = {name: why for name in wanted if (why := CASES[name].missing(folder))}
    for name, why in missing.items():
        print(f"{name} is left out: {why}", file=sys.stderr)
    present = [name for name in wanted if name not in missing]
    if not present:
        raise SystemExit("None of the authors' code is there: nothing was measured, nothing is written.")
    theirs = {CASES[name].repository: str(commit_of(CASES[name].path(folder))) for name in present}
    began = time.perf_counter()
    rows = by_threads(__file__, ["--folder", str(folder), "--seconds", str(arguments.seconds), "--cases", *present])
    result = evidence(
        question=QUESTION,
        rows=rows,
        claims=claims(rows),
        seeds=[0],
        minutes=(time.perf_counter() - began) / 60,
        commit=commit,
        packages={CASES[name].package.partition("==")[0] for name in present if CASES[name].package},
    )
    result |= {"authors": theirs, "missing": missing}
    if arguments.cases is None:
        save(RESULT, result)
    for entry in [*result["rows"], *result["claims"]]:
        print(json.dumps(entry))


if __name__ == "__main__":
    main()
