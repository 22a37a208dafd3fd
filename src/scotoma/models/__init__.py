"""Architectures, one file a family and one line here a name, and the loading of all models.

>>> import scotoma, torch
>>> network = scotoma.models.ARCHITECTURES["small-cnn"]((1, 8, 8), classes=10)
>>> scotoma.load_model(network)(torch.rand(2, 1, 8, 8)).shape
torch.Size([2, 10])
"""

from __future__ import annotations

from scotoma.utils.registry import Table

ARCHITECTURES = Table(
    "architecture",
    {
        "small-cnn": "models.small_cnn:small_cnn",
        "madry-mnist": "models.small_cnn:madry_mnist",
        "wong-small": "models.mnist:wong_small",
        "wong-large": "models.mnist:wong_large",
        "wrm": "models.mnist:wrm",
        "tramer-a": "models.mnist:tramer_a",
        "tramer-b": "models.mnist:tramer_b",
        "tramer-c": "models.mnist:tramer_c",
        "tramer-d": "models.mnist:tramer_d",
        "cnn": "models.mnist:cnn",
        "binary-cnn": "models.mnist:binary_cnn",
        "abs": "models.synthesis:synthesis",
        "binary-abs": "models.synthesis:binary_synthesis",
        "flow": "models.flow:flow",
        "nearest-neighbour": "models.nearest_neighbour:nearest_neighbour",
        "resnet9": "models.resnet:resnet9",
        "madry-cifar": "models.resnet:madry_cifar",
        "resnet50": "models.resnet:resnet50",
        "resnet101": "models.resnet:resnet101",
        "judge-strided": "models.judges:strided",
        "judge-patches": "models.judges:patches",
        "judge-pooled": "models.judges:pooled",
    },
)


def __dir__() -> list[str]:
    return ["ARCHITECTURES"]
