"""Everything beside its peers, in one process, into `docs/benchmarks.md`.

    python benchmarks/suite.py
    python benchmarks/suite.py --sections nearest,passes
    python benchmarks/suite.py --sections training          # takes many minutes, and is left out otherwise

Foolbox, ART, torchattacks and AutoAttack get the same model, images, labels and, where both have them, settings as our attacks
(`contests.py`). What takes less than half a second runs twice, in turn with the others, and the faster run counts. On one thread
time is the processor's, so that other programs do not count; on more it is the wall clock's. Sections on MNIST are left out where
the data are missing. A section that is measured again replaces what the page said; the others stay.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

import page
import themes
from contests import Contest, automatic, decision, main_ones, nearest, stepping
from libraries import versions
from page import Row, Standing
from peers import Attack, Problem, Result, measure, problem
from scotoma.claim import Threat
from scotoma.utils.device import default_device, has_bf16
from scotoma.utils.errors import InputError

Contests = Callable[[Threat, Threat], Iterable[Contest]]
"""Those of a theme at an L-inf and an L2 size."""
QUICK = 0.5
"""Seconds below which a run is repeated."""
MNIST = Path(__file__).resolve().parents[1] / "zoo" / "mnist-pgd.safetensors"


def digits(contests: Contests, options: argparse.Namespace) -> str:
    """All contests of a theme, on the digits."""
    setting = problem(themes.asked(options, "digits", "digits", options.images), "linf")
    linf, l2 = Threat("linf", 0.2), Threat("l2", 1.0)
    said = f"`small-cnn`, PGD-trained at {linf}, on {len(setting.images)} 8x8 digits that it has right; {linf} and {l2}."
    return attacks(said, setting, contests(linf, l2))


def mnist(options: argparse.Namespace) -> str:
    """The main contests, on MNIST."""
    setting = problem(themes.asked(options, str(MNIST), "mnist", options.mnist_images), "linf")
    linf, l2 = Threat("linf", 0.3), Threat("l2", 2.0)
    said = f"`madry-mnist`, PGD-trained at {linf}, on {len(setting.images)} test images that it has right; {linf} and {l2}."
    return attacks(said, setting, main_ones(linf, l2))


SECTIONS: dict[str, tuple[str, Callable[[argparse.Namespace], str]]] = {
    "stepping": ("Attacks inside a ball, in gradient steps", partial(digits, stepping)),
    "automatic": ("Attacks inside a ball with nothing to set", partial(digits, automatic)),
    "nearest": ("The smallest perturbation, by gradients", partial(digits, nearest)),
    "decision": ("The smallest perturbation, by the label alone", partial(digits, decision)),
    "mnist": ("The main attacks on MNIST", mnist),
    "passes": ("Time inside the model", themes.passes),
    "throughput": ("Throughput on an accelerator", themes.throughput),
    "prediction": ("Prediction by analysis by synthesis", themes.prediction),
    "distance": ("Distance to the training set", themes.distance),
    "divergence": ("Divergence of training and test set", themes.divergence),
    "attribution": ("Attribution", themes.attribution),
    "training": ("Adversarial training", themes.training),
}
LONG = ("training",)
"""Only when asked for."""


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    names = options.sections.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        raise InputError(
            f"--sections: no section {', '.join(unknown)}; known: {', '.join(SECTIONS)}"
        )
    order = [title for title, _ in SECTIONS.values()]
    with threadpool_limits(options.threads):
        for name in names:
            title, measured = SECTIONS[name]
            print(f"\n{title}", flush=True)
            start = time.perf_counter(), time.process_time()
            try:
                text = measured(options)
            except InputError as error:
                print(f"left out: {error}")
                continue
            page.write(title, f"{text}\n\n{machine(options.threads)}", order, options.page)
            spent = time.perf_counter() - start[0], time.process_time() - start[1]
            print("{:.0f} s, processor {:.0f} s".format(*spent), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = ",".join(name for name in SECTIONS if name not in LONG)
    parser.add_argument(
        "--sections",
        default=usual,
        help=f"names with commas between (default: {usual}; also: {', '.join(LONG)})",
    )
    parser.add_argument(
        "--data-root", type=Path, help="where downloaded data sets are (default: $SCOTOMA_DATA)"
    )
    parser.add_argument(
        "--images", type=int, default=40, help="of the digits, at most (default: 40)"
    )
    parser.add_argument(
        "--mnist-images", type=int, default=20, help="of MNIST, at most (default: 20)"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument(
        "--page",
        type=Path,
        default=page.PAGE,
        help="the page to write (default: docs/benchmarks.md)",
    )
    return parser.parse_args()


def attacks(said: str, setting: Problem, contests: Iterable[Contest]) -> str:
    """The table of the contests, and what peers are better at."""
    standings = [compete(contest, setting) for contest in contests]
    return f"{said}\n\n{page.contest_table(standings)}\n\n{page.lost(standings)}"


def compete(contest: Contest, setting: Problem) -> Standing:
    """Run ours and every peer; a peer that fails has its error for a row."""
    few = slice(0, contest.images)
    setting = replace(
        setting,
        images=setting.images[few],
        labels=setting.labels[few],
        norm=contest.threat.norm,
        eps=contest.eps,
    )
    themes.warm_up(setting)
    failed: dict[str, str] = {}
    results = {
        library: attempt(attack, setting, library, failed)
        for library, attack in contest.peers.items()
    }
    first = next(iter(results.values()))
    mine = contest.ours(round(first.forwards) if contest.as_asked and first else None)
    results = {"**ours**": measure(mine, setting)} | results
    for library, attack in {"**ours**": mine, **contest.peers}.items():
        once = results[library]
        if once and once.seconds < QUICK:
            results[library] = min(
                once, measure(attack, setting), key=lambda result: result.seconds
            )
    rows = [
        Row(library, len(setting.images), result, failed.get(library, ""))
        for library, result in results.items()
    ]
    for row in rows:
        told = (
            f"{row.result.fooled:>7.0%}{row.result.median:>10.4g}{row.result.seconds:>9.2f} s"
            if row.result
            else row.failure
        )
        print(f"{contest.title[:44]:<46}{row.library:<20}{told}", flush=True)
    return Standing(contest.title, not contest.fixed, rows)


def attempt(
    attack: Attack, setting: Problem, library: str, failed: dict[str, str]
) -> Result | None:
    try:
        return measure(attack, setting)
    except Exception as error:  # whatever another library raises is its result
        failed[library] = f"fails: {type(error).__name__}"
        print(f"{library}: {type(error).__name__}: {error}")
        return None


def machine(threads: int) -> str:
    """What the figures of a section were measured on, in general terms, and with what."""
    device = default_device()
    kind = f"{os.cpu_count()} cores of a CPU, {threads} thread{'s' if threads > 1 else ''}"
    if device.type == "cuda":
        kind += f", {torch.cuda.get_device_name(device)}"
    bf16 = "with" if has_bf16(torch.device("cpu")) else "without"
    return f"*{kind}, {bf16} bf16 arithmetic. {versions()}.*"


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
