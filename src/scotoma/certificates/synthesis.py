"""How far analysis by synthesis should be stable in L2: an estimate of the lower bound of Schott et al. (2019).

Held at its latent z, the loss of the predicted class y grows by a perturbation of length eps to at most (a + eps)^2 + kappa, with
a = |x - G_y(z)| and kappa = beta |z|^2 / 2. That of another class c is at least (t - eps)^2 for eps <= t, where t is the distance
d_c from the image to the nearest one that c can make. The label is stable while the first is smaller, each times its class's scale.
Instead of d_c, t may be the root of the whole loss of c, prior and all: it is the distance from (x, 0) to the surface of all
(G_c(z), sqrt(beta / 2) z), moves by no more than x does, and is never below d_c.

Both are minima over z of what is not convex, and are found by search. What is given is therefore an estimate and proves nothing: a
search that misses a class's best latent makes it too large.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from scotoma.models.binarise import Binarise
from scotoma.models.synthesis import AnalysisBySynthesis, Synthesis, inside
from scotoma.utils.errors import InputError


@torch.no_grad()
def lower_bounds(model: nn.Module, images: Tensor, *, priors: bool = False) -> Tensor:
    """Estimated L2 sizes up to which no perturbation changes the predicted class, right or wrong, (n,); 0 where nothing is said.

    Distances to the other classes are the smallest of several searches, with the model's beta and with 0.

    Args:
        model: an `AnalysisBySynthesis`, or a module that shows it the images as they are.
        images: (n, c, h, w) in [0, 1].
        priors: count what the latents of the other classes cost too, which the paper leaves out: larger, were the minima exact.

    Raises:
        InputError: a model that reconstructs nothing, binarises its input (where a step of any size may cross the threshold) or
            changes the images before it explains them.
    """
    synthesiser = inside(model)
    if synthesiser is None:
        raise InputError(
            "the bound from synthesis needs a model that reconstructs images: arch=abs"
        )
    if isinstance(synthesiser.binarise, Binarise):
        raise InputError(
            "the bound from synthesis is not defined for a model that binarises its input; use arch=abs"
        )
    own = _explained(model, synthesiser, images)
    whole = copy.copy(synthesiser)
    whole.race = False  # a class that has lost the race has not been searched to the end
    found = [
        own,
        whole.synthesise(images, beta=0.0),
        *([whole.synthesise(images)] if priors else []),
    ]
    missed = torch.stack([(images[:, None] - each.images).flatten(2).norm(dim=2) for each in found])
    costs = torch.stack([synthesiser.beta / 2 * each.latents.square().sum(2) for each in found])
    label = own.losses.argmin(1, keepdim=True)
    a, kappa = missed[0].gather(1, label), costs[0].gather(1, label)
    t = (missed.square() + costs).sqrt().amin(0) if priors else missed.amin(0)
    ratio = synthesiser.scales / synthesiser.scales[label]
    return _crossing(a, kappa, t, ratio).scatter(1, label, torch.inf).amin(1)


def _crossing(a: Tensor, kappa: Tensor, t: Tensor, ratio: Tensor) -> Tensor:
    """The eps at which (a + eps)^2 + kappa = ratio (t - eps)^2, 0 where the left is larger from the start.

    Written so that a ratio of 1, where it is (t^2 - a^2 - kappa) / (2 (a + t)), is no special case.
    """
    half, ahead = a + ratio * t, (ratio * t.square() - a.square() - kappa).clamp_min(0)
    root = (half.square() + (1 - ratio) * ahead).clamp_min(0).sqrt()
    return ahead / (half + root).clamp_min(torch.finfo(t.dtype).tiny)


def _explained(model: nn.Module, synthesiser: AnalysisBySynthesis, images: Tensor) -> Synthesis:
    """What the classes make of the images when the model is asked."""
    shown: list[Tensor] = []
    found: list[Synthesis] = []

    def show(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        shown.append(given[0])

    def see(_module: nn.Module, _given: Any, made: Any) -> None:
        found.append(made)

    handles = (
        synthesiser.register_forward_pre_hook(show),
        synthesiser.explanation.register_forward_hook(see),
    )
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    if not torch.equal(torch.cat(shown), images):
        raise InputError(
            "the bound from synthesis is not known for a model that changes images before it explains them"
        )
    return Synthesis(*map(torch.cat, zip(*found, strict=True)))
