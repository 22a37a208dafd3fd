"""A model that is known in full."""

import torch
from torch import nn

from scotoma.data.dataset import Dataset


def centroids(data: Dataset) -> nn.Sequential:
    """The linear model that takes an image for the class whose mean training image is nearest."""
    assert data.train is not None
    images = data.train.images(torch.arange(len(data.train))).flatten(1)
    means = torch.stack(
        [images[data.train.labels == label].mean(0) for label in range(len(data.classes))]
    )
    layer = nn.Linear(images.shape[1], len(means))
    bias = -means.square().sum(1) / 2
    with torch.no_grad():  # what all classes share changes no answer, and would only cost digits
        layer.weight.copy_(means - means.mean(0))
        layer.bias.copy_(bias - bias.mean())
    return nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)
