"""Broken defences, to test an audit on: grouped by what they change, one line here a name.

Each wraps any network from images (n, c, h, w) in [0, 1] to logits, as its authors' code would.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from scotoma.models.classifier import freeze
from scotoma.models.defences.base import Defence, Fitted
from scotoma.utils.errors import InputError
from scotoma.utils.random import own_numbers
from scotoma.utils.registry import Table

DEFENCES = Table(
    "defence",
    {
        "input-quantisation": "models.defences.pixels:InputQuantisation",
        "thermometer": "models.defences.pixels:Thermometer",
        "jpeg": "models.defences.pixels:Jpeg",
        "resize-pad": "models.defences.randomised:ResizePad",
        "input-noise": "models.defences.randomised:InputNoise",
        "layer-noise": "models.defences.randomised:LayerNoise",
        "activation-pruning": "models.defences.randomised:ActivationPruning",
        "k-winners": "models.defences.activations:KWinners",
        "mean-sparse": "models.defences.activations:MeanSparse",
        "stiff-flow": "models.defences.pixels:StiffFlow",
        "distillation": "models.defences.logits:Distillation",
        "logit-scaling": "models.defences.logits:LogitScaling",
        "logit-rounding": "models.defences.logits:LogitRounding",
        "vote": "models.defences.logits:Vote",
        "error-correcting-code": "models.defences.logits:ErrorCorrectingCode",
        "anti-adversary": "models.defences.rebuilt:AntiAdversary",
        "purification": "models.defences.rebuilt:Purification",
        "autoencoder": "models.defences.rebuilt:Autoencoder",
        "zero-backward": "models.defences.logits:ZeroBackward",
        "hard-label": "models.defences.logits:HardLabel",
        "ripple": "models.defences.pixels:Ripple",
    },
)


def defend(
    name: str,
    network: nn.Module,
    images: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    seed: int = 0,
) -> Defence:
    """Return a copy of a network behind the defence of that name, frozen and in eval mode.

    Args:
        name: a name of `DEFENCES`.
        network: from images (n, c, h, w) in [0, 1] to logits (n, classes); it does not change.
        images: training images (n, c, h, w) for a `Fitted` defence; others ignore them.
        labels: their labels (n,).
        seed: seed of the fitting; the global random state does not change.

    Raises:
        InputError: the name is unknown, the network has no layer that the defence changes, or the
            defence is fitted on training images and there are none.

    >>> import torch
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> images, labels = torch.rand(20, 1, 2, 2), torch.arange(20) % 2
    >>> defend("k-winners", network, images, labels)(images).shape
    torch.Size([20, 2])
    """
    with own_numbers(seed):
        defence: Defence = DEFENCES[name](copy.deepcopy(network))
        if isinstance(defence, Fitted):
            if images is not None and labels is not None:
                defence.fit(images, labels)
            elif not defence.works_unfitted:
                raise InputError(
                    f"defence {name} is fitted on training images; give images and labels, or "
                    "data with training images"
                )
    freeze(defence)
    return defence


def __dir__() -> list[str]:
    return ["DEFENCES", "defend"]
