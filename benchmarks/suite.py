"""Everything beside its peers, in one process, into `docs/benchmarks.md`.

    python benchmarks/suite.py
    python benchmarks/suite.py --sections nearest,passes
    python benchmarks/suite.py --sections training          # many minutes; only when it is named

The rows of `contests.py` meet on the digits, the main ones on MNIST. Runs under half a second are
repeated, and the faster one counts. On one thread time is the processor's, so that other programs
do not count. Sections on MNIST are omitted if the data are missing. A section that is measured
again replaces its predecessor on the page; the others stay.
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
import works
from contests import THEMES, Contest, main_ones
from harness import Attack, Options, Problem, Result, bare, measure, problem
from page import Row, Standing
from peers import versions
from scotoma.claim import Threat
from scotoma.utils.device import default_device, has_bf16
from scotoma.utils.errors import InputError

QUICK = 0.5
"""Seconds below which a run is repeated."""
LINF, L2 = Threat("linf", 0.3), Threat("l2", 2.0)


def digits(theme: str, options: Options, images: int = 40) -> str:
    """All contests of a theme, on the digits."""
    setting = problem(options, images)
    linf, l2 = Threat("linf", 0.2), Threat("l2", 1.0)
    what = f"`small-cnn`, PGD-trained at {linf}, on {len(setting.images)} 8x8 digits"
    return attacks(what, setting, THEMES[theme](linf, l2), f"{linf} and {l2}")


def mnist(options: Options, images: int = 20) -> str:
    """The main contests, on MNIST."""
    setting = problem(options, images, "mnist-pgd")
    what = f"`madry-mnist`, PGD-trained at {LINF}, on {len(setting.images)} test images"
    return attacks(what, setting, main_ones(LINF, L2), f"{LINF} and {L2}")


def attacks(what: str, setting: Problem, contests: Iterable[Contest], threats: str) -> str:
    """The table of the contests, and what peers do better."""
    standings = [compete(contest, setting) for contest in contests]
    intro = f"{what} that it classifies correctly; {threats}."
    return f"{intro}\n\n{page.contest_table(standings)}\n\n{page.lost(standings)}"


def compete(contest: Contest, setting: Problem) -> Standing:
    """Run ours and every peer; the row of a peer that fails has its error."""
    few, norm, failed = slice(0, contest.images), contest.threat.norm, {}
    images, labels = setting.images[few], setting.labels[few]
    setting = replace(setting, images=images, labels=labels, norm=norm, eps=contest.eps)
    bare(setting, 2, 1)  # kernels are chosen at the first pass of a shape
    results: dict[str, Result | None] = {
        name: attempt(attack, setting, name, failed) for name, attack in contest.peers.items()
    }
    first = next(iter(results.values()))
    mine = contest.ours(round(first.forwards) if contest.as_asked and first else None)
    results = {"**ours**": measure(mine, setting)} | results
    for name, attack in {"**ours**": mine, **contest.peers}.items():
        once = results[name]
        if once and once.seconds < QUICK:
            again = measure(attack, setting)
            results[name] = min(once, again, key=lambda result: result.seconds)
    rows = [Row(name, len(images), each, failed.get(name, "")) for name, each in results.items()]
    for row in rows:
        each, line = row.result, row.failure
        if each:
            line = f"{each.fooled:>7.0%}{each.median:>10.4g}{each.seconds:>9.2f} s"
        print(f"{contest.title[:44]:<46}{row.library:<20}{line}", flush=True)
    return Standing(contest.title, not contest.fixed, rows)


def attempt(attack: Attack, setting: Problem, name: str, failed: dict[str, str]) -> Result | None:
    try:
        return measure(attack, setting)
    except Exception as error:  # whatever another library raises is its result
        failed[name] = f"fails: {type(error).__name__}"
        print(f"{name}: {type(error).__name__}: {error}")
        return None


SECTIONS: dict[str, tuple[str, Callable[[Options], object]]] = {
    "stepping": ("Attacks inside a ball, in gradient steps", partial(digits, "stepping")),
    "automatic": ("Attacks inside a ball with nothing to set", partial(digits, "automatic")),
    "nearest": ("The smallest perturbation, by gradients", partial(digits, "nearest")),
    "decision": ("The smallest perturbation, by the label alone", partial(digits, "decision")),
    "mnist": ("The main attacks on MNIST", mnist),
    "passes": ("Time inside the model", works.passes),
    "throughput": ("Throughput on an accelerator", works.throughput),
    "prediction": ("Prediction by analysis by synthesis", works.prediction),
    "distance": ("Distance to the training set", works.distance),
    "divergence": ("Divergence of training and test set", works.divergence),
    "attribution": ("Attribution", works.attribution),
    "training": ("Adversarial training", works.training),
}
LONG = ("training",)
"""Only when named."""


def machine(threads: int) -> str:
    """What a section was measured on, in general terms, and with which versions."""
    kind = f"{os.cpu_count()} cores of a CPU, {threads} thread{'s' if threads > 1 else ''}"
    if default_device().type == "cuda":
        kind += f", {torch.cuda.get_device_name(default_device())}"
    bf16 = "with" if has_bf16(torch.device("cpu")) else "without"
    return f"*{kind}, {bf16} bf16 arithmetic. {versions()}.*"


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    usual = ",".join(name for name in SECTIONS if name not in LONG)
    parser.add_argument("--sections", default=usual, help=f"default: {usual}; also {LONG[0]}")
    parser.add_argument("--data-root", type=Path, help="data folder (default: $SCOTOMA_DATA)")
    parser.add_argument("--images", type=int, default=40, help="digits (default: 40)")
    parser.add_argument("--mnist-images", type=int, default=20, help="of MNIST (default: 20)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--page", type=Path, default=page.PAGE, help="the page to write")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    names = given.sections.split(",")
    if unknown := ", ".join(name for name in names if name not in SECTIONS):
        raise InputError(f"--sections: no section {unknown}; known: {', '.join(SECTIONS)}")
    options = Options(data_root=given.data_root, threads=given.threads)
    with threadpool_limits(given.threads):
        for name in names:
            title, section = SECTIONS[name]
            print(f"\n{title}", flush=True)
            start = time.perf_counter(), time.process_time()
            images = (
                given.images if name in THEMES else given.mnist_images if name == "mnist" else None
            )
            try:
                body = str(section(replace(options, images=images)))
            except InputError as error:
                print(f"omitted: {error}")
                continue
            order = [title for title, _ in SECTIONS.values()]
            page.write(title, f"{body}\n\n{machine(given.threads)}", order, given.page)
            spent = time.perf_counter() - start[0], time.process_time() - start[1]
            print("{:.0f} s, processor {:.0f} s".format(*spent), flush=True)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
