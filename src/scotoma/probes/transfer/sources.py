"""Other models to make examples on: the user's, reference models, or newly trained networks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from scotoma.claim import Claim
from scotoma.data.dataset import Dataset, Sample
from scotoma.execution.fingerprint import fingerprint
from scotoma.execution.fingerprint import name as written
from scotoma.execution.run import Run
from scotoma.models.classifier import Classifier
from scotoma.models.loading import ModelLike, load_model
from scotoma.probes.base import model_facts, prepared
from scotoma.reference import REFERENCES, Reference, in_zoo
from scotoma.training.loop import Schedule
from scotoma.utils.cache import cached, kept, once
from scotoma.utils.random import own_numbers

FEWEST, MOST = 2, 3
"""Fewest sources, reached by training, and most reference models, if the user names none."""

SMALL = ("wong-small", "tramer-d")
"""Architectures of newly trained networks: one convolutional, one of dense layers alone."""

SMALLEST = 4
"""Pixels a side that the convolutional network needs."""

FEW_IMAGES = 10_000
VALUES = 700_000_000
"""Pixel values that a training may read: about a minute on two cores."""

WATCHED = 100
"""Test images on which a training is evaluated after every epoch."""

TOGETHER = "all together"


@dataclass(frozen=True)
class Source:
    """A model on which examples are made.

    Args:
        model: the model, checked on the data, with a unique name.
        held_out: whether it is not the audited model and, by the card of that one, was not used in
            its training.
        trained: description of its training.
    """

    model: Classifier
    held_out: bool
    trained: str

    @property
    def name(self) -> str:
        return self.model.name


def sources(claim: Claim, run: Run, user_models: Sequence[Classifier] = ()) -> tuple[Source, ...]:
    """Return the sources of an audit; none without models of the user and a training split.

    The default is up to `MOST` naturally trained reference models of the same data, from the
    zoo, and newly trained small networks up to `FEWEST` sources. These are kept in $SCOTOMA_CACHE
    or the user's cache for the next audit.

    Args:
        claim: the audited model, and the data to train on.
        run: the run that shows progress; its folder is used if the cache cannot be written.
        user_models: models of the user, checked on the data.
    """
    if user_models:
        candidates = [(model, _training(model.card)) for model in user_models]
    elif claim.data.train is None:
        return ()
    else:
        with own_numbers():  # building a network draws weights
            candidates = _default_models(claim, run)
    different = {json.dumps(fingerprint(model)): (model, trained) for model, trained in candidates}
    names = [claim.model.name, TOGETHER, *(model.name for model, _ in different.values())]
    result = []
    for model, trained in different.values():
        if names.count(model.name) > 1:
            model = replace(model, name=f"{model.name} {model.sha256[:8]}")
        result.append(Source(model, is_held_out(claim.model, model), trained))
    return tuple(result)


def source_facts(models: Sequence[ModelLike]) -> dict[str, Any]:
    """Return what the report says of the models that the user named."""
    facts = {written(model): model_facts(model) for model in prepared(models)}
    return {"sources": facts} if facts else {}


def _default_models(claim: Claim, run: Run) -> list[tuple[Classifier, str]]:
    """Return held-out models, and how each was trained."""
    references = (each for each in _references(claim) if is_held_out(claim.model, each[0]))
    models = list(islice(references, MOST))
    for arch in SMALL:
        if len(models) < FEWEST and (arch != SMALL[0] or min(claim.data.shape[1:]) >= SMALLEST):
            model = small(arch, claim.data, run)
            if is_held_out(claim.model, model):
                models.append((model, f"for this probe: {_training(model.card)}"))
    return models


def _references(claim: Claim) -> Iterator[tuple[Classifier, str]]:
    for name, entry in REFERENCES.items():
        if entry.recipe == "natural" and entry.data == claim.data.name and (path := in_zoo(name)):
            model = load_model(str(path)).checked(claim.data)
            yield model, f"reference model: {_training(model.card)}"


def is_held_out(audited: Classifier, source: Classifier) -> bool:
    """Return whether the audited model is not the source, and was not trained with it."""
    options = audited.card.get("options")
    hashes = options.get("sources") if isinstance(options, dict) else None
    prefixes = [str(each).rpartition(" ")[2] for each in hashes] if isinstance(hashes, list) else []
    listed = any(len(prefix) >= 8 and source.sha256.startswith(prefix) for prefix in prefixes)
    return not listed and source.sha256 not in (audited.sha256, audited.card.get("start"))


def _training(card: dict[str, Any]) -> str:
    """Return how a model was trained, by its card."""
    try:
        epochs = card["schedule"]["epochs"]
        return f"{card['recipe']}, {card['arch']}, {epochs} epochs on {card['data']}"
    except (KeyError, TypeError):
        return "not known"


def small(arch: str, data: Dataset, run: Run, what_for: str = "to make examples on") -> Classifier:
    """Train a network naturally on the data in about a minute, or load it from the cache."""
    assert data.train is not None
    schedule = schedule_for(len(data.train))
    recipe = Reference("natural", data.name, arch, "linf:0.1", schedule)
    size = torch.Size(data.shape).numel()
    train_part = Sample(data.train, max(schedule.batch, VALUES // (schedule.epochs * size)))
    settings = [data.sha256, recipe.recipe, arch, asdict(schedule), len(train_part)]
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = kept(cached("sources", run.store.folder) / key / f"{arch}.safetensors")

    def train() -> None:
        reduced = replace(data, train=train_part, test=Sample(data.test, WATCHED))
        what = f"training {arch} on {data.name}, {what_for}"
        with run.progress.bar(what, recipe.batches(reduced)) as advance:
            recipe.train(reduced, path, advance)

    return load_model(str(once(path, train))).checked(data)


def schedule_for(images: int) -> Schedule:
    """Return a schedule of 500 small steps on few images, 1,400 larger ones on many."""
    steps, batch = (500, 32) if images < FEW_IMAGES else (1400, 128)
    return Schedule(min(40, max(1, round(steps * batch / images))), batch, peak=2e-3)


def together(models: Sequence[Classifier], classes: int) -> Classifier:
    """Make one model of several, whose logits are the mean of their log-probabilities.

    Liu et al. 2017, section 4, take the mean of the probabilities, whose gradients vanish if one
    model is sure.
    """
    digest = hashlib.sha256("".join(model.sha256 for model in models).encode()).hexdigest()
    return Classifier(_Together([model.module for model in models], classes), TOGETHER, digest)


class _Together(nn.Module):
    def __init__(self, modules: list[nn.Module], classes: int):
        super().__init__()
        self.members = nn.ModuleList(modules)
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        logits = [member(images).float() for member in self.members]
        return torch.stack([each.log_softmax(1)[:, : self.classes] for each in logits]).mean(0)
