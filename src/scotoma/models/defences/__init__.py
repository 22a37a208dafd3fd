"""Broken defences, to test an audit on: one mechanism a file, one line here a name.

Each wraps any network from images (n, c, h, w) in [0, 1] to logits, as its authors' code would.

>>> import torch
>>> from scotoma.models.defences import defend
>>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
>>> defend("input-quantisation", network)(torch.rand(3, 1, 2, 2)).shape
torch.Size([3, 2])
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from scotoma.models.classifier import freeze
from scotoma.models.defences.base import Defence, Fitted
from scotoma.utils.errors import InputError
from scotoma.utils.registry import Table

DEFENCES = Table(
    "defence",
    {
        "input-quantisation": "models.defences.input_quantisation:InputQuantisation",
        "thermometer": "models.defences.thermometer:Thermometer",
        "jpeg": "models.defences.jpeg:Jpeg",
        "resize-pad": "models.defences.resize_pad:ResizePad",
        "input-noise": "models.defences.input_noise:InputNoise",
        "layer-noise": "models.defences.layer_noise:LayerNoise",
        "activation-pruning": "models.defences.activation_pruning:ActivationPruning",
        "k-winners": "models.defences.k_winners:KWinners",
        "mean-sparse": "models.defences.mean_sparse:MeanSparse",
        "stiff-flow": "models.defences.stiff_flow:StiffFlow",
        "distillation": "models.defences.distillation:Distillation",
        "logit-scaling": "models.defences.logit_scaling:LogitScaling",
        "logit-rounding": "models.defences.logit_rounding:LogitRounding",
        "vote": "models.defences.vote:Vote",
        "error-correcting-code": "models.defences.error_correcting_code:ErrorCorrectingCode",
        "anti-adversary": "models.defences.anti_adversary:AntiAdversary",
        "purification": "models.defences.purification:Purification",
        "autoencoder": "models.defences.autoencoder:Autoencoder",
        "zero-backward": "models.defences.zero_backward:ZeroBackward",
        "hard-label": "models.defences.hard_label:HardLabel",
        "ripple": "models.defences.ripple:Ripple",
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

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> images, labels = torch.rand(20, 1, 2, 2), torch.arange(20) % 2
    >>> defend("k-winners", network, images, labels)(images).shape
    torch.Size([20, 2])
    """
    with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
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
