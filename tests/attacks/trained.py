"""A robust classifier of the embedded digits, trained once a session in a second."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from once import once
from scotoma.attacks.core.losses import fooled
from scotoma.data import load_data
from scotoma.threat import Threat
from scotoma.training.pgd import PGDTraining

EPOCHS = 15


def dense() -> nn.Sequential:
    """A network of dense layers: a pass takes a tenth of what the smallest convolutions take."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


@cache
def digits_model() -> nn.Module:
    """A small network after PGD training at L-inf 0.2."""

    def make(path: Path) -> None:
        train = load_data("digits").train
        assert train is not None
        torch.manual_seed(0)
        model, recipe, random = dense(), PGDTraining(Threat("linf", 0.2)), torch.Generator()
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for epoch in range(EPOCHS):
            for rows in torch.randperm(len(train), generator=random).split(128):
                optimizer.zero_grad()
                images, labels = train.images(rows), train.labels[rows]
                recipe(model, images, labels, epoch / EPOCHS, random).backward()
                optimizer.step()
        torch.save(model.state_dict(), path)

    model = dense()
    model.load_state_dict(torch.load(once("dense-pgd-02.pt", make)))
    return model.requires_grad_(False).eval()


def correct_digits(n: int) -> tuple[nn.Module, Tensor, Tensor]:
    """`digits_model`, and those of the first `n` test images that it classifies correctly."""
    model, (images, labels) = digits_model(), digits_images(n)
    right = ~fooled(model(images), labels)
    return model, images[right], labels[right]


def digits_images(n: int) -> tuple[Tensor, Tensor]:
    """The first `n` test images and their labels."""
    test = load_data("digits").test
    return test.images(torch.arange(n)), test.labels[:n]
