"""Our work beside that of other libraries, in one process, into `docs/benchmarks.md`.

    python benchmarks/suite.py
    python benchmarks/suite.py --only nearest,passes
    python benchmarks/suite.py --only stepping --contest fgsm   # one contest; writes no page
    python benchmarks/suite.py --only training                  # minutes; only when it is named

The contests of `contests.py` run on the digits, the main ones on MNIST. Runs under half a second
are repeated, and the faster one counts. On one thread, time is that of the processor, so that other
programs do not count. Sections on MNIST are omitted if the data are missing. A section that is
measured again replaces its predecessor on the page; the others stay.
"""

import argparse
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

import page
import synthesis
import training
import works
from contests import THEMES, Contest, compete, main_ones
from harness import L2, LINF, Options, Problem, command, known, problem
from measuring import spending
from peers import versions
from scotoma.threat import Threat
from scotoma.utils.device import default_device, has_bf16
from scotoma.utils.errors import InputError


def digits(theme: str, options: Options) -> str:
    """All contests of a theme, on the digits."""
    setting, linf, l2 = problem(options, 40), Threat("linf", 0.2), Threat("l2", 1.0)
    what = f"`small-cnn`, PGD-trained at {linf}, on {len(setting.images)} 8x8 digits"
    return attacks(what, setting, THEMES[theme](linf, l2), linf, l2, options.contest)


def mnist(options: Options) -> str:
    """The main contests, on MNIST."""
    setting = problem(options, 20, "mnist-pgd")
    what = f"`madry-mnist`, PGD-trained at {LINF}, on {len(setting.images)} test images"
    return attacks(what, setting, main_ones(LINF, L2), LINF, L2, options.contest)


def attacks(
    what: str, setting: Problem, rows: Iterable[Contest], linf: Threat, l2: Threat, only: str
) -> str:
    """The table of the contests, and what peers do better."""
    chosen = [each for each in rows if only.lower() in each.title.lower()]
    standings = [compete(contest, setting) for contest in chosen]
    intro = f"{what} that it classifies correctly; {linf} and {l2}."
    return f"{intro}\n\n{page.contest_table(standings)}\n\n{page.lost(standings)}"


SECTIONS: dict[str, tuple[str, Callable[[Options], object]]] = {
    "stepping": ("Attacks inside a ball, in gradient steps", partial(digits, "stepping")),
    "automatic": ("Attacks inside a ball with nothing to set", partial(digits, "automatic")),
    "nearest": ("The smallest perturbation, by gradients", partial(digits, "nearest")),
    "decision": ("The smallest perturbation, by the label alone", partial(digits, "decision")),
    "mnist": ("The main attacks on MNIST", mnist),
    "passes": ("Time inside the model", works.passes),
    "throughput": ("Throughput on an accelerator", works.throughput),
    "prediction": ("Prediction by analysis by synthesis", synthesis.prediction),
    "distance": ("Distance to the training set", works.distance),
    "divergence": ("Divergence of training and test set", works.divergence),
    "attribution": ("Attribution", works.attribution),
    "training": ("Adversarial training", training.training),
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


def main(parser: argparse.ArgumentParser) -> None:
    usual = ",".join(name for name in SECTIONS if name not in LONG)
    parser.add_argument("--only", default=usual, help=f"default: {usual}; also {LONG[0]}")
    parser.add_argument("--contest", default="", help="contests whose title has this; no page")
    parser.add_argument("--images", type=int, default=40, help="digits (default: 40)")
    parser.add_argument("--mnist-images", type=int, default=20, help="of MNIST (default: 20)")
    parser.add_argument("--page", type=Path, default=page.PAGE, help="the page to write")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    names = known(given.only.split(","), SECTIONS, "--only: no section")
    counts = dict.fromkeys(THEMES, given.images) | {"mnist": given.mnist_images}
    options = Options(data_root=given.data_root, threads=given.threads, contest=given.contest)
    order = [title for title, _ in SECTIONS.values()]
    with threadpool_limits(given.threads):
        for name in names:
            title, section = SECTIONS[name]
            print(f"\n{title}", flush=True)
            try:
                with spending() as spent:
                    body = section(replace(options, images=counts.get(name)))
            except InputError as error:
                print(f"omitted: {error}")
                continue
            if not given.contest:
                page.write(title, f"{body}\n\n{machine(given.threads)}", order, given.page)
            print(spent, flush=True)


if __name__ == "__main__":
    command(main, __doc__)
