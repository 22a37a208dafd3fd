"""Ensemble adversarial training: whose examples it learns from."""

from __future__ import annotations

import pytest
import torch

from scotoma.claim import Threat
from scotoma.models.checkpoint import load_checkpoint
from scotoma.models.classifier import Classifier
from scotoma.models.small_cnn import small_cnn
from scotoma.training.loop import Schedule, train
from scotoma.training.single_step import EnsembleTraining, FGSMTraining, StepLLTraining
from scotoma.utils.errors import InputError

THREAT = Threat("linf", 0.1)


@pytest.fixture
def sources(digits) -> tuple[Classifier, ...]:
    torch.manual_seed(1)
    return tuple(Classifier.of(small_cnn(digits.shape, 10), name) for name in ("first", "second"))


@pytest.mark.parametrize(("step", "plain"), [("fgsm", FGSMTraining), ("step-ll", StepLLTraining)])
def test_each_batch_takes_one_source_or_the_model_itself(digits, sources, step, plain):
    torch.manual_seed(2)
    model = small_cnn(digits.shape, 10)
    images = digits.test.images(torch.arange(20))
    unused = torch.Generator()
    wanted = [
        plain(THREAT).perturb(module, images, unused)
        for module in (sources[0].module, sources[1].module, model)
    ]
    generator, drawn = torch.Generator().manual_seed(0), []
    for _ in range(90):
        made = EnsembleTraining(THREAT, sources, step).perturb(model, images, generator)
        (who,) = [i for i, each in enumerate(wanted) if torch.equal(made, each)]
        drawn.append(who)
    assert all(18 <= drawn.count(who) <= 42 for who in range(3)), drawn


def test_sources_stay_as_they_are_and_stand_on_the_card(tmp_path, digits, sources):
    before = [source.module.state_dict()["conv1.weight"].clone() for source in sources]
    out = tmp_path / "m.safetensors"
    train(
        "ensemble",
        digits,
        "small-cnn",
        THREAT,
        out,
        schedule=Schedule(1),
        options={"sources": sources},
    )
    for source, weight in zip(sources, before, strict=True):
        assert torch.equal(source.module.state_dict()["conv1.weight"], weight)
        assert not source.module.training
    _, card = load_checkpoint(out)
    assert card["options"]["sources"] == [
        f"{source.name} {source.sha256[:16]}" for source in sources
    ]


def test_what_cannot_be(sources):
    with pytest.raises(InputError, match="sources=MODEL"):
        EnsembleTraining(THREAT)
    with pytest.raises(InputError, match="want fgsm or step-ll"):
        EnsembleTraining(THREAT, sources, "pgd")
