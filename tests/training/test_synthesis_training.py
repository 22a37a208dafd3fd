"""The recipe of analysis by synthesis, and its balanced batches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scotoma.data.dataset import Dataset
from scotoma.models import ARCHITECTURES, synthesis
from scotoma.models.checkpoint import load_checkpoint
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.models.vae import ClassVAEs
from scotoma.threat import Threat
from scotoma.training import plain
from scotoma.training.balance import balanced_order
from scotoma.training.loop import Schedule, train
from scotoma.training.plain import Synthesis
from scotoma.utils.errors import InputError

L2 = Threat("l2", 1.5)


def test_batches_hold_every_class_equally_often_and_in_turn():
    labels = torch.tensor([0] * 50 + [1] * 7 + [2] * 30)
    order = balanced_order(labels, 3, 12, torch.Generator().manual_seed(0))
    assert len(order) == 96  # eight batches fill 87 images once
    assert torch.equal(labels[order], torch.arange(96) % 3)
    used = torch.bincount(order[1::3] - 50, minlength=7)
    assert used.max() - used.min() <= 1
    assert len(order[::3].unique()) == 32


def test_a_class_without_images_cannot_be_balanced():
    with pytest.raises(InputError, match="no training images of class 1"):
        balanced_order(torch.tensor([0, 2]), 3, 3, torch.Generator())


def test_the_loss_is_the_evidence_bound_of_the_images_own_class(digits: Dataset):
    torch.manual_seed(0)
    model = ARCHITECTURES["abs"](digits.shape, 10).eval()
    labels = torch.arange(20) % 10
    images = torch.rand(20, *digits.shape)
    generator = torch.Generator().manual_seed(3)
    loss = Synthesis(L2, beta=0.5)(model, images, labels, 0.0, generator)
    with torch.no_grad():
        made, mean, log_variance = model.vaes(
            images.view(2, 10, *digits.shape), torch.Generator().manual_seed(3)
        )
    total = 0.0
    for row in range(20):
        own = (row // 10, row % 10)
        missed = (images[row] - made[own]).square().sum()
        prior = torch.distributions.Normal(torch.zeros(8), torch.ones(8))
        drawn = torch.distributions.Normal(mean[own], (log_variance[own] / 2).exp())
        total += float(missed + 0.5 * torch.distributions.kl_divergence(drawn, prior).sum())
    assert float(loss.detach()) == pytest.approx(total / 20, rel=1e-5)


def quick(shape: tuple[int, int, int], classes: int) -> AnalysisBySynthesis:
    """Analysis by synthesis that searches from the best of few latents."""
    return AnalysisBySynthesis(ClassVAEs(shape, classes), samples=500, steps=20)


@pytest.mark.slow
def test_it_learns_and_is_calibrated(digits: Dataset, tmp_path: Path, monkeypatch):
    # most of the time goes into evaluation, and into the search for latents
    monkeypatch.setattr(Synthesis, "evaluated", 40)
    monkeypatch.setattr(plain, "CALIBRATED", 200)
    monkeypatch.setattr(synthesis, "synthesis", quick)
    out, schedule = tmp_path / "abs.safetensors", Schedule(epochs=3, batch=50, peak=3e-3)
    model = train("abs", digits, None, L2, out, schedule=schedule, half=True)
    card = load_checkpoint(out)[1]
    assert isinstance(model, AnalysisBySynthesis)
    assert card["arch"] == "abs"
    assert card["accuracy"] > 0.85
    losses = [
        json.loads(line)["loss"]
        for line in out.with_name("abs.safetensors.log.jsonl").read_text().splitlines()
    ]
    assert losses[-1] < 0.6 * losses[0]
    images = digits.test.images(torch.arange(40))
    noise = torch.rand(40, *digits.shape, generator=torch.Generator().manual_seed(0))
    assert model.posterior(images).amax(1).mean() > 2 * model.posterior(noise).amax(1).mean()


def test_bad_input_is_told(digits: Dataset, tmp_path: Path):
    with pytest.raises(InputError, match="arch=abs"):
        train(
            "abs", digits, "small-cnn", L2, tmp_path / "a.safetensors", schedule=Schedule(epochs=1)
        )
    with pytest.raises(InputError, match="batch=8"):
        train(
            "abs",
            digits,
            None,
            L2,
            tmp_path / "a.safetensors",
            schedule=Schedule(epochs=1, batch=8),
        )
