"""Estimated L2 stability of analysis by synthesis, after the bound of Schott et al. (2019).

At fixed latent z, a perturbation of length eps raises the loss of the predicted class y to at most
(a + eps)^2 + kappa, with a = |x - G_y(z)| and kappa = beta |z|^2 / 2. The loss of another class c
is at least (t - eps)^2 for eps <= t, where t is the distance d_c from the image to the nearest
image that c can make. The label is stable while the first, times its class's scale, is smaller.
Instead of d_c, t may be the root of c's whole loss with the prior: this is the distance from (x, 0)
to the surface of all (G_c(z), sqrt(beta / 2) z), changes by no more than x does, and is at least
d_c.

Both are minima of nonconvex functions of z, found by search. The result is an estimate and proves
nothing: a search that misses a class's best latent makes it too large.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from scotoma.models.layers import Binarise
from scotoma.models.synthesis import AnalysisBySynthesis, Synthesis, inside
from scotoma.utils.errors import InputError


@torch.no_grad()
def lower_bounds(model: nn.Module, images: Tensor, *, priors: bool = False) -> Tensor:
    """Return estimated L2 sizes within which the predicted class cannot change, (n,).

    The value is 0 where nothing is known. Distances to other classes are the smallest of several
    searches, with the model's beta and with 0.

    Args:
        model: an `AnalysisBySynthesis`, or a module that passes images to one unchanged.
        images: (n, c, h, w) in [0, 1].
        priors: whether the latents' prior costs count for the other classes, which the paper omits;
            exact minima would make the bound larger.

    Raises:
        InputError: the model reconstructs nothing, binarises its input (a step of any size may
            cross the threshold) or changes the images before it reconstructs them.

    >>> lower_bounds(nn.Flatten(), torch.zeros(1, 1, 2, 2))
    Traceback (most recent call last):
    scotoma.utils.errors.InputError: the bound from synthesis needs a model that ...
    """
    synthesiser = inside(model)
    if synthesiser is None:
        raise InputError(
            "the bound from synthesis needs a model that reconstructs images: arch=abs"
        )
    if isinstance(synthesiser.binarise, Binarise):
        raise InputError(
            "the bound from synthesis is not defined for a model that binarises its input; "
            "use arch=abs"
        )
    own = _explained(model, synthesiser, images)
    full = copy.copy(synthesiser)
    full.race = False  # a class that has lost the race has not been searched to the end
    searches = [own, full.synthesise(images, beta=0.0)]
    if priors:
        searches.append(full.synthesise(images))
    misses = [(images[:, None] - each.images).flatten(2).norm(dim=2) for each in searches]
    missed = torch.stack(misses)
    costs = torch.stack([synthesiser.beta / 2 * each.latents.square().sum(2) for each in searches])
    label = own.losses.argmin(1, keepdim=True)
    a, kappa = missed[0].gather(1, label), costs[0].gather(1, label)
    t = (missed.square() + costs).sqrt().amin(0) if priors else missed.amin(0)
    ratio = synthesiser.scales / synthesiser.scales[label]
    return _crossing(a, kappa, t, ratio).scatter(1, label, torch.inf).amin(1)


def _crossing(a: Tensor, kappa: Tensor, t: Tensor, ratio: Tensor) -> Tensor:
    """Return eps with (a + eps)^2 + kappa = ratio (t - eps)^2; 0 where the left starts larger.

    This form needs no special case for ratio 1, where it is (t^2 - a^2 - kappa) / (2 (a + t)).
    """
    half, ahead = a + ratio * t, (ratio * t.square() - a.square() - kappa).clamp_min(0)
    root = (half.square() + (1 - ratio) * ahead).clamp_min(0).sqrt()
    return ahead / (half + root).clamp_min(torch.finfo(t.dtype).tiny)


def _explained(model: nn.Module, synthesiser: AnalysisBySynthesis, images: Tensor) -> Synthesis:
    """Return the classes' reconstructions when the model is evaluated."""
    inputs: list[Tensor] = []
    syntheses: list[Synthesis] = []

    def show(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs.append(arguments[0])

    def see(_module: nn.Module, _arguments: Any, synthesis: Any) -> None:
        syntheses.append(synthesis)

    handles = (
        synthesiser.register_forward_pre_hook(show),
        synthesiser.explanation.register_forward_hook(see),
    )
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    if not torch.equal(torch.cat(inputs), images):
        raise InputError(
            "the bound from synthesis is not known for a model that changes images "
            "before it explains them"
        )
    return Synthesis(*map(torch.cat, zip(*syntheses, strict=True)))
