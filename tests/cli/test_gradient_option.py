"""`--gradient` of `attack`."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from scotoma.attacks import ATTACKS
from scotoma.attacks.bpda import BPDA
from scotoma.attacks.core.gradient import with_gradient
from scotoma.attacks.estimated import Estimated
from scotoma.attacks.pgd import PGD
from scotoma.threat import Threat
from scotoma.utils.errors import InputError

BLIND = (
    "boundary",
    "hop-skip-jump",
    "pointwise",
    "salt-pepper",
    "gaussian-noise",
    "contrast",
    "square",
    "transfer",
)
ROUNDED = """
import torch
from torch import nn

from scotoma.models.loading import load_model


class Rounded(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model((images >= 0.5).float())


def build():
    return Rounded(load_model({path!r}).module)
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_what_a_step_hides_is_found(scotoma, here, digits_model):
    (here / "rounded.py").write_text(ROUNDED.format(path=str(digits_model)))
    success, names = {}, {}
    for how in ("exact", "estimate", "bpda"):
        ended = scotoma(
            *(
                "attack",
                "pgd",
                "rounded.py:build",
                "--data",
                "digits",
                "--threat",
                "linf:0.4",
                "--limit",
                20,
                "--gradient",
                how,
            )
        )
        assert (ended.code, ended.err) == (0, "")
        label = "pgd" if how == "exact" else f"pgd-{how}"
        path = here / "runs" / f"{label}-rounded.py-build" / f"{label}.parquet"
        assert ended.out.splitlines()[-1] == f"records: {path.relative_to(here)}"
        frame = pl.read_parquet(path)
        success[how] = frame["success"].sum()
        (names[how],) = frame["attack"].unique()
        right = frame.filter(pl.col("prediction") == pl.col("label"))
        if how == "estimate":
            assert right["backwards"].sum() == 0
            steps = right.filter(~pl.col("success"))["forwards"]
            assert (steps == 1 + 40 * (1 + 2 * 64) + 1).all()
        elif how == "bpda":
            assert (right["backwards"] > 0).all()
    assert success["bpda"] > 1.5 * success["exact"]
    assert success["estimate"] > success["exact"]
    assert names["estimate"] == f"Estimated(attack={names['exact']}, step=0.1, directions=None)"
    assert names["bpda"] == f"BPDA(attack={names['exact']})"


def test_refused(scotoma, here, digits_model):
    def told(*args: object) -> str:
        threat = {"pointwise": "l0:5", "salt-pepper": "l0:5", "boundary": "l2:1"}.get(
            str(args[0]), "linf:0.1"
        )
        sources = ("--sources", digits_model) if args[0] == "transfer" else ()
        ended = scotoma(
            "attack",
            args[0],
            digits_model,
            "--data",
            "digits",
            "--threat",
            threat,
            "--gradient",
            args[1],
            *sources,
        )
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith("scotoma: ")
        assert ended.err.count("\n") == 1
        return ended.err

    for name in BLIND:
        for how in ("estimate", "bpda"):
            assert (
                f"attack {name} follows no gradients of the model; omit --gradient {how}"
                in told(name, how)
            )
    assert "--gradient estimated: unknown; did you mean 'estimate'?" in told("pgd", "estimated")
    assert "known: exact, estimate, bpda" in told("square", "")
    assert list(here.iterdir()) == []


def test_with_gradient():
    attack = PGD(Threat("linf", 0.1))
    assert with_gradient(attack, "exact") is attack
    assert with_gradient(attack, "estimate") == Estimated(attack)
    assert with_gradient(attack, "bpda") == BPDA(attack)
    square = ATTACKS["square"](Threat("linf", 0.1))
    assert with_gradient(square, "exact") is square
    with pytest.raises(InputError):
        with_gradient(square, "bpda")
    assert {name for name in ATTACKS if not getattr(ATTACKS[name], "gradients", True)} >= set(BLIND)


BLACK_BOX = """
from scotoma.models.loading import load_model


def build():
    model = load_model({path!r}).module
    return lambda images: model(images).detach().numpy()
"""


def test_gradients_of_a_black_box_are_estimated(scotoma, here, digits_model):
    (here / "box.py").write_text(BLACK_BOX.format(path=str(digits_model)))
    common = ("box.py:build", "--data", "digits", "--threat", "linf:0.2", "--limit", 20)
    ended = scotoma("attack", "fgsm", *common)
    assert (ended.code, ended.err) == (0, "")
    assert "attacks estimate them from its answers" in ended.out
    frame = pl.read_parquet(here / "runs/fgsm-estimate-box.py-build/fgsm-estimate.parquet")
    assert frame["success"].sum() > 5
    assert frame["forwards"].to_numpy().max() > 64
    ended = scotoma("attack", "fgsm", *common, "--gradient", "exact")
    assert (ended.code, ended.out) == (2, "")
    assert "--gradient exact: the model is a black box" in ended.err
