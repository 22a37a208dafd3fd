"""Distal adversarials of small digits models: rows and images match them, the rule can fail."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from once import barely_tested
from scotoma.attacks.distal import Distal, Posterior
from scotoma.auditing import make_claim
from scotoma.execution.run import Run
from scotoma.models import ARCHITECTURES, synthesis
from scotoma.models.checkpoint import save_checkpoint
from scotoma.models.layers import Binarise
from scotoma.models.nearest_neighbour import NearestNeighbour
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.models.vae import ClassVAEs
from scotoma.papers.item import SUMMARY, Context
from scotoma.papers.schott2019 import MODELS, distal
from scotoma.papers.schott2019.distal import CLIMB, DistalImages, Sureness, uniform
from scotoma.reference import REFERENCES, Reference
from scotoma.report.figures import draw
from scotoma.results.finding import Gallery
from scotoma.training.loop import Schedule

LIMIT = 12
ARCHS = {
    "CNN": "cnn",
    "Binary CNN": "binary-cnn",
    "Nearest neighbour": "nearest-neighbour",
    "Madry et al.": "small-cnn",
    "Binary ABS": "binary-abs",
    "ABS": "abs",
}
EPOCHS = {"cnn": 3, "binary-cnn": 3, "small-cnn": 3}


class Tiny(DistalImages):
    """The six models, of the digits."""

    trainings = {paper: f"tiny-{arch}" for paper, arch in ARCHS.items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits) -> Path:
    folder = tmp_path_factory.mktemp("models")
    few = barely_tested(digits)
    for arch in ARCHS.values():
        torch.manual_seed(0)
        path, network = folder / f"tiny-{arch}.safetensors", ARCHITECTURES[arch]((1, 8, 8), 10)
        if arch in EPOCHS:
            wanted = Reference(
                "natural", "digits", arch, "linf:0.1", Schedule(EPOCHS[arch], 64, peak=3e-3)
            )
            wanted.train(few, path, lambda batches: None)
            continue
        if isinstance(network, NearestNeighbour):
            network.remember(digits.train)
        else:
            _draw_greys(
                network, digits.train.images(torch.arange(len(digits.train))), digits.train.labels
            )
        save_checkpoint(path, network, {"arch": arch, "shape": (1, 8, 8), "classes": 10})
    return folder


def _draw_greys(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Generative models about as bright as the images of their class, and a floor that fits."""
    assert isinstance(network, AnalysisBySynthesis)
    network.sharpness.fill_(2.0)
    network.floor.fill_(-16.0)
    last = [layer for layer in network.vaes.decoder if isinstance(layer, nn.ConvTranspose2d)][-1]
    assert last.bias is not None
    means = torch.stack([images[labels == label].mean() for label in range(10)])
    with torch.no_grad():
        last.bias.copy_((means / means.max() * 0.9).logit(1e-4))


@pytest.fixture
def context(tmp_path, monkeypatch, trained) -> Callable[..., Context]:
    for arch in ARCHS.values():
        wanted = Reference("natural", "digits", arch, "linf:0.1", Schedule(1))
        monkeypatch.setitem(REFERENCES, f"tiny-{arch}", wanted)
    monkeypatch.setattr(distal, "CLIMB", replace(CLIMB, steps=25))
    for name, binary in {"synthesis": False, "binary_synthesis": True}.items():
        monkeypatch.setattr(synthesis, name, partial(_quick, binary))
    return lambda **changes: Context(
        tmp_path / "runs", **{"limit": LIMIT, "models": trained} | changes
    )


def _quick(binary: bool, shape: tuple[int, int, int], classes: int) -> AnalysisBySynthesis:
    """Analysis by synthesis whose search for latents takes no time."""
    return AnalysisBySynthesis(ClassVAEs(shape, classes), binary=binary, samples=50, steps=2)


def test_calibration_finds_the_temperature_and_the_worst_explained():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 3, generator=generator)
    labels = torch.multinomial((5 * logits).softmax(1), 1, generator=generator).squeeze(1)
    sharpness, floor = synthesis.calibration(logits, labels)
    assert float(sharpness) == pytest.approx(5, rel=0.1)
    own = sharpness * logits.gather(1, labels[:, None])
    assert (own < floor).float().mean() == pytest.approx(0.01, abs=1e-3)


def test_noise_is_uniform_the_same_for_all_and_begins_alike(tmp_path, digits, linear):
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    first, second = (
        Run(make_claim(model, digits, "linf:0.1"), tmp_path / name)
        for name, model in {"first": linear, "second": other}.items()
    )
    many, few = uniform(first, 500, "noise"), uniform(second, 3, "noise")
    assert torch.equal(many[:3], few)
    assert not torch.equal(uniform(first, 3, "start"), few)
    assert many.shape == (500, 1, 8, 8)
    assert many.mean() == pytest.approx(0.5, abs=0.01)
    assert many.var() == pytest.approx(1 / 12, rel=0.02)


def test_rows_and_images_are_what_the_models_say(context, digits, monkeypatch):
    with context() as here:
        rows, finding = Tiny().measure(here)
        found = {paper: distal.sureness(here, name) for paper, name in Tiny.trainings.items()}
        modules = {paper: here.model(name).module for paper, name in Tiny.trainings.items()}
        noise = uniform(here.run("tiny-cnn"), LIMIT, "noise")
    by = {(each["model"], each["measure"]): each for each in rows}
    assert len(by) == len(rows) == 6 * 8
    assert {each["published"] for each in rows} == {None}
    shown, gallery = finding.images["distal"], finding.figures[1]
    assert isinstance(gallery, Gallery)
    assert shown.shape == (10, 6, 1, 8, 8)
    reached = {(line["model"], line["target"]): line for line in finding.tables["distal"]}
    for column, (paper, module) in enumerate(modules.items()):
        with torch.no_grad():
            logits = module(noise)
        largest = found[paper].posterior(logits).amax(1)
        assert by[paper, "sure of noise"]["ours"] == pytest.approx(
            float((largest >= 0.9).float().mean())
        )
        assert by[paper, "sure of noise"]["n"] == LIMIT
        softmax = logits.softmax(1).amax(1)
        assert by[paper, "sure of noise, by the softmax"]["ours"] == pytest.approx(
            float((softmax >= 0.9).float().mean())
        )
        if isinstance(module, AnalysisBySynthesis):
            assert torch.allclose(module.probabilities(logits).amax(1), largest, atol=1e-5)
        for target in range(10):
            line, image = (
                reached[paper, digits.classes[target]],
                torch.from_numpy(shown[target, column]),
            )
            assert line["reached"] == (line["confidence"] >= 0.9) == (line["steps"] is not None)
            if not line["reached"]:
                assert (image == 0.5).all()
                continue
            assert line["steps"] <= 25
            with torch.no_grad():
                told = found[paper].posterior(module(image[None]))[0]
            assert float(told[target]) == pytest.approx(line["confidence"], abs=2e-3)
            nearest = (
                (digits.train.images(torch.arange(len(digits.train))) - image)
                .flatten(1)
                .norm(dim=1)
                .min()
            )
            assert line["distance_to_data"] == pytest.approx(float(nearest), rel=1e-4)
            assert f"at {line['confidence']:.2f}" in gallery.captions[target][column]
            if any(isinstance(part, Binarise) for part in module.modules()):
                assert set(image.unique().tolist()) <= {0.0, 1.0}
        steps = [
            line["steps"] for key, line in reached.items() if key[0] == paper and line["reached"]
        ]
        assert by[paper, "targets reached from noise"]["ours"] == len(steps) / 10
    assert by["CNN", "targets reached from noise"]["ours"] > 0.5
    assert by["Binary CNN", "targets reached from noise"]["ours"] > 0.5, (
        "without BPDA no image would move"
    )
    assert by["Nearest neighbour", "targets reached from noise"]["ours"] == 1
    assert len(finding.tables[SUMMARY]) == 6
    outcomes = [line["outcome"] for line in finding.tables["checks"]]
    assert (finding.verdict == "agrees") == (
        outcomes.count("agrees") > 2 and "contradicts" not in outcomes
    )
    for figure in finding.figures:
        assert "<svg" in draw(figure, finding)

    monkeypatch.setattr(Distal, "__call__", lambda *args, **kwargs: pytest.fail("climbed again"))
    with context() as here:
        assert Tiny().measure(here)[0] == rows


def made(noise: float, distances: list[float]) -> Sureness:
    """A model with this probability on noise, reaching as many targets as there are distances."""
    n, lost = len(distances), 10 - len(distances)
    return Sureness(
        Posterior(),
        test=np.full(50, 0.99),
        noise=np.full(50, noise),
        softmax=np.full(50, noise),
        confidence=np.array([0.95] * n + [0.2] * lost),
        steps=np.array([7.0] * n + [math.inf] * lost),
        images=np.zeros((10, 1, 8, 8), np.float32),
        distances=np.array(distances + [0.0] * lost),
    )


@pytest.mark.parametrize(
    ("noise", "near", "held"),
    [
        (0.1, [1.0] * 10, [True, True]),
        (0.1, [], [True, True]),
        (0.95, [1.0] * 10, [False, True]),
        (0.1, [9.0] * 10, [True, False]),
        (0.1, [1.0, 9.0] * 5, [True, False]),
    ],
)
def test_the_rule(noise: float, near: list[float], held: list[bool]):
    plain, good = made(0.95, [8.0] * 10), made(0.1, [1.0] * 10)
    found = {"CNN": plain, "Binary CNN": plain, "Binary ABS": good, "ABS": made(noise, near)}
    assert [check.holds for check in Tiny.checks(found)] == [*held, True, True]


def test_the_models_of_mnist():
    assert DistalImages().models == tuple(MODELS.values())
    assert set(Tiny.trainings) == set(MODELS)
