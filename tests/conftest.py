"""Data and models that many tests share, and the command line as a function."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from centroids import centroids
from once import barely_tested, once
from quick import quicken
from scotoma import cli
from scotoma.data import load_data
from scotoma.data.dataset import ArraySplit, Dataset, from_splits
from scotoma.results.report import read_report
from scotoma.threat import Threat
from scotoma.training.loop import Schedule, train
from scotoma.utils.errors import InputError

torch.set_num_threads(1)

BESIDE = Path(__file__).parents[2] / "shared" / "data"
if BESIDE.is_dir():
    os.environ.setdefault("SCOTOMA_DATA", str(BESIDE))


def for_all_workers(tmp_path_factory) -> Path:
    """A folder that the tests of this session share."""
    shared = tmp_path_factory.getbasetemp()
    return shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory) -> None:
    """Keep what audits train out of the user's cache, and give `once` a folder."""
    os.environ["SCOTOMA_TESTS"] = str(for_all_workers(tmp_path_factory))
    os.environ["SCOTOMA_CACHE"] = str(for_all_workers(tmp_path_factory) / "cache")
    quicken()


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The embedded digits."""
    return load_data("digits")


@pytest.fixture(scope="session")
def grey(digits) -> Dataset:
    """The digits in [0.3, 0.7], where small perturbations never reach black or white."""

    def flat(split) -> ArraySplit:
        return ArraySplit(
            (0.3 + 0.4 * split.images(torch.arange(len(split)))).numpy(),
            split.labels.numpy(),
            "grey",
        )

    return from_splits("grey", flat(digits.train), flat(digits.test))


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    """MNIST where it lies in $SCOTOMA_DATA."""
    if "SCOTOMA_DATA" not in os.environ:
        pytest.skip("MNIST: $SCOTOMA_DATA is not set, and there is no ../shared/data")
    try:
        return load_data("mnist")
    except InputError as error:
        pytest.skip(f"MNIST: {error}")


@pytest.fixture(scope="session")
def digits_model(digits) -> Path:
    """A file with a small-cnn after PGD training at linf:0.1."""

    def make(path: Path) -> None:
        schedule = Schedule(epochs=6, batch=64, peak=4e-3)
        few = barely_tested(digits)
        train("pgd", few, "small-cnn", Threat("linf", 0.1), path, schedule=schedule)

    return once("digits-pgd.safetensors", make)


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Let audits draw no report, which takes longer than a small audit."""
    monkeypatch.setattr("scotoma.report.publishing.draw", read_report)


@pytest.fixture
def linear(digits) -> nn.Sequential:
    """A linear model of the digits, right on nine in ten."""
    return centroids(digits)


@pytest.fixture
def linear_grey(grey) -> nn.Sequential:
    """The same on the grey digits."""
    return centroids(grey)


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def scotoma(monkeypatch, capfd) -> Callable[..., Ended]:
    """The command line in this process: `scotoma("list", "attacks")`."""

    def run(*args: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["scotoma", *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Ended(ended.value.code or 0, *capfd.readouterr())  # type: ignore[arg-type]

    return run
