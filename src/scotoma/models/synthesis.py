"""Analysis by synthesis: classes as likely as their generative models reproduce the image."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.decoders import CACHED, Decoders
from scotoma.models.layers import Binarise
from scotoma.models.vae import LATENT, ClassVAEs

DROPPED = 0.1
"""Fraction of the random latents that are dropped, the least likely."""
TOGETHER = 256
"""Images in one search on a CPU; an accelerator takes all at once."""
RACE = {0: 1.6, 5: 1.4, 10: 1.25, 20: 1.15}
"""By step, the multiple of the smallest loss above which a class leaves the search. On five kinds
of images no such class ended within 1.12 times the smallest (docs/log.md)."""
BETAS, STABILITY = (0.9, 0.999), 1e-8
"""Constants of Adam."""
BEST = 3
"""Classes with the smallest losses, which never leave the search."""
SHARPNESS, FLOOR = 440 / 784, math.log(3.9e-5)
"""Constants of the posterior on MNIST in the authors' code, whose loss is divided by 784. The
floor is a logarithm, which half precision can store."""
SHARPNESSES = torch.logspace(-2, 2, 401)
EXPLAINED = 0.01
"""Fraction of images whose reconstruction is so bad that the floor outweighs their own class."""


class Synthesis(NamedTuple):
    """The best reconstruction of images by each class."""

    losses: Tensor
    """Negative evidence bounds up to a factor, (n, classes)."""
    latents: Tensor
    """Latents of the reconstructions, (n, classes, LATENT)."""
    images: Tensor
    """Reconstructions, (n, classes, c, h, w)."""


class AnalysisBySynthesis(nn.Module):
    """Classifies by the decoder that comes nearest to the image, by descent in its latent space.

    The loss of a class is min over z of |x - G(z)|^2 + beta |z|^2 / 2, the evidence bound with a
    posterior of unit variance around z. z starts from the best of `samples` latents, equal for all
    classes and images, and takes `steps` steps of Adam inside a ball (the authors' code divides the
    loss by the number of values). Logits are `sharpness` times the negative losses; the buffers
    `sharpness` and `floor` have the authors' values for MNIST until `calibrate` fits them.

    A class whose loss exceeds `RACE` leaves the search with its present latent, unless it is one of
    the `BEST`. Its loss is then an upper bound.

    The gradient by the image is that of the loss at constant z, which is exact at a minimum over z.
    If the search stops short of it, `unrolled` gives the gradient through all steps, at several
    times the cost and memory.

    Args:
        vaes: the generative models.
        binary: binarise the image first, which blocks its gradient.
        scales: factor on the loss of each class; None is 1.
        samples: number of latents to start from.
        steps, rate: number and size of the steps.
        radius: radius of the ball of latents.
        beta: weight of the likelihood of the latent.
        seed: seed of the samples; see `draw`.
        unrolled: differentiate through the search.
        race: drop classes by `RACE`; otherwise all take all steps, as with `unrolled`.

    Source: Schott et al. 2019, section 3, and the authors' code.
    """

    precise = True
    """Everything is computed in float32, since the search for z amplifies rounding."""

    def __init__(
        self,
        vaes: ClassVAEs,
        *,
        binary: bool = False,
        scales: tuple[float, ...] | None = None,
        samples: int = 8000,
        steps: int = 50,
        rate: float = 0.05,
        radius: float = 5.0,
        beta: float = 1.0,
        seed: int = 0,
        unrolled: bool = False,
        race: bool = True,
    ):
        super().__init__()
        self.binarise = Binarise() if binary else nn.Identity()
        self.vaes = vaes
        self.register_buffer("scales", torch.tensor(scales or (1.0,) * vaes.classes))
        self.scales: Tensor
        self.samples, self.steps, self.rate, self.radius = samples, steps, rate, radius
        self.beta, self.seed, self.unrolled, self.race = beta, seed, unrolled, race
        self.register_buffer("sharpness", torch.tensor(SHARPNESS))
        self.register_buffer("floor", torch.tensor(FLOOR))
        self.sharpness: Tensor
        self.floor: Tensor
        self.explanation = nn.Identity()
        """A hook here gets the `Synthesis` behind the logits."""
        self._kept = _Kept()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        return -self.sharpness * self.explanation(self.synthesise(images)).losses

    def posterior(self, images: Tensor) -> Tensor:
        """Return calibrated probabilities (n, classes), uniform if no class explains the image.

        Source: section 3, equation 8.
        """
        return self.probabilities(self(images))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return e^l + e^floor over their sum for logits l, (n, classes)."""
        return torch.logaddexp(logits, self.floor).softmax(1)

    @torch.no_grad()
    def calibrate(self, images: Tensor, labels: Tensor) -> None:
        """Fit `sharpness` and `floor` to images, see `calibration`."""
        losses = torch.cat([self.synthesise(part).losses for part in images.split(TOGETHER)])
        sharpness, floor = calibration(-losses, labels)
        self.sharpness.fill_(sharpness)
        self.floor.copy_(floor)

    def synthesise(self, images: Tensor, beta: float | None = None) -> Synthesis:
        """Search for the best reconstruction by each class.

        Args:
            images: (n, c, h, w).
            beta: weight of the latent's likelihood (default: the model's); with any other no class
                leaves the search. 0 searches for the nearest image of each class.
        """
        beta = self.beta if beta is None else beta
        with torch.autocast(images.device.type, enabled=False):
            inputs = self.binarise(images.float())
            bank = self._prepared(inputs.device)
            together = TOGETHER if inputs.device.type == "cpu" else max(1, len(inputs))
            starts = bank.nearest(inputs.detach())
            pairs = zip(inputs.split(together), starts.split(together), strict=True)
            parts = [self._explain(bank, beta, *pair) for pair in pairs]
            return Synthesis(*map(torch.cat, zip(*parts, strict=True)))

    def draw(self, seed: int) -> None:
        """Draw other samples, for expectations over them."""
        self.seed = seed
        self._kept.bank = None

    def train(self, mode: bool = True) -> AnalysisBySynthesis:
        self._kept.bank = None
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> AnalysisBySynthesis:
        self._kept.bank = None  # weights may have another device or type
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._kept.bank = None
        super()._load_from_state_dict(*args, **kwargs)

    def _prepared(self, device: torch.device) -> _Bank:
        if self._kept.bank is None:
            self._kept.bank = _Bank(self.vaes, self.samples, self.beta, self.seed, device)
        return self._kept.bank

    def _explain(self, bank: _Bank, beta: float, images: Tensor, latents: Tensor) -> Synthesis:
        """Search from given latents."""
        unrolled = self.unrolled and images.requires_grad
        descend = self._unroll if unrolled else self._descend
        z = descend(bank, beta, images, latents)
        losses, made = _losses(bank, beta, images, z)
        return Synthesis(losses * self.scales, z, made)

    @torch.no_grad()
    def _descend(self, bank: _Bank, beta: float, images: Tensor, latents: Tensor) -> Tensor:
        """Return the latents (n, classes, LATENT) after the search."""
        n, classes = latents.shape[:2]
        best = latents.transpose(0, 1).flatten(0, 1)  # row class * n + image
        race = RACE if self.race and beta == self.beta else {}
        # Pairs of a class and an image that are still in the search, ordered by class.
        pairs, z = torch.arange(len(best), device=best.device), best.clone()
        mean, square = torch.zeros_like(z), torch.zeros_like(z)
        inputs, counts = images.repeat(classes, 1, 1, 1), [n] * classes
        for step in range(self.steps):
            missed, slope = bank.decoders.slope(inputs, z, counts)
            if step in race:
                losses = (missed + beta / 2 * z.square().sum(1)) * self.scales[pairs // n]
                stay = _in_race(losses, pairs, n, classes, race[step])
                best[pairs] = z
                pairs, z, mean, square, inputs, slope = (
                    part[stay] for part in (pairs, z, mean, square, inputs, slope)
                )
                counts = torch.bincount(pairs // n, minlength=classes).tolist()
            slope.add_(z, alpha=beta)
            mean.lerp_(slope, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(slope, slope, value=1 - BETAS[1])
            sizes = (square / (1 - BETAS[1] ** (step + 1))).sqrt_().add_(STABILITY)
            z.addcdiv_(mean, sizes, value=-self.rate / (1 - BETAS[0] ** (step + 1)))
            z.mul_(self.radius / z.norm(dim=1, keepdim=True).clamp_min_(self.radius))
        best[pairs] = z
        return best.view(classes, n, LATENT).transpose(0, 1)

    def _unroll(self, bank: _Bank, beta: float, images: Tensor, latents: Tensor) -> Tensor:
        """Return the latents of `_descend` without a race, with a gradient by the images."""
        z = latents.clone().requires_grad_()
        mean, square = torch.zeros_like(z), torch.zeros_like(z)
        for step in range(1, self.steps + 1):
            losses, _ = _losses(bank, beta, images, z)
            (slope,) = torch.autograd.grad(losses.sum(), z, create_graph=True)
            mean = torch.lerp(mean, slope, 1 - BETAS[0])
            square = BETAS[1] * square + (1 - BETAS[1]) * slope.square()
            # Inside the root, whose slope at 0 is infinite.
            sizes = (square / (1 - BETAS[1] ** step) + STABILITY**2).sqrt()
            z = z - self.rate / (1 - BETAS[0] ** step) * mean / sizes
            z = z * (self.radius / z.norm(dim=2, keepdim=True).clamp_min(self.radius))
        return z


class _Kept:
    """A bank, valid until the weights change; not part of the model's state."""

    bank: _Bank | None = None


class _Bank:
    """The decoders and the images of the samples, which depend on the weights and the seed."""

    @torch.no_grad()
    def __init__(self, vaes: ClassVAEs, samples: int, beta: float, seed: int, device: torch.device):
        self.decoders = Decoders(vaes)
        generator, size = torch.Generator().manual_seed(seed), round(samples / (1 - DROPPED))
        latents = torch.randn(size, LATENT, generator=generator)
        self.samples = latents[latents.norm(dim=1).argsort()[:samples]].to(device)
        parts = [
            [decoder.decode(part).flatten(1) for part in self.samples.split(CACHED)]
            for decoder in self.decoders.each
        ]
        self.images = torch.stack([torch.cat(of_class) for of_class in parts])
        self.offsets = self.images.square().sum(2) + beta / 2 * self.samples.square().sum(1)

    def nearest(self, images: Tensor) -> Tensor:
        """Return the best sample of each class, (n, classes, LATENT)."""
        flat = images.flatten(1)
        pairs = zip(self.offsets, self.images, strict=True)
        best = [torch.addmm(offset, flat, each.T, alpha=-2).argmin(1) for offset, each in pairs]
        return self.samples[torch.stack(best, 1)]


def _losses(bank: _Bank, beta: float, images: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
    decoded = bank.decoders.decode(latents)
    error = (images[:, None] - decoded).square().flatten(2).sum(2)
    return error + beta / 2 * latents.square().sum(2), decoded


def _in_race(losses: Tensor, pairs: Tensor, n: int, classes: int, lead: float) -> Tensor:
    """Return which pairs are among the `BEST` of their image, or within `lead` times its best."""
    table = losses.new_full((classes * n,), torch.inf).index_copy_(0, pairs, losses)
    best = table.view(classes, n).topk(min(BEST, classes), dim=0, largest=False).values
    return losses <= torch.maximum(best[0] * lead, best[-1])[pairs % n]


def calibration(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sharpness and the floor of the posterior that fits logits (n, classes) of images.

    The sharpness maximises the likelihood of the labels. The floor outweighs the image's own class
    on the `EXPLAINED` of the images that are explained worst.
    """
    likelihoods = [F.cross_entropy(sharpness * logits, labels) for sharpness in SHARPNESSES]
    sharpness = SHARPNESSES[int(torch.stack(likelihoods).argmin())]
    return sharpness, (sharpness * logits.gather(1, labels[:, None])).quantile(EXPLAINED)


def inside(module: nn.Module) -> AnalysisBySynthesis | None:
    """Return the analysis by synthesis that a module is or wraps, or None."""
    return next((part for part in module.modules() if isinstance(part, AnalysisBySynthesis)), None)


def synthesis(shape: tuple[int, int, int], classes: int) -> AnalysisBySynthesis:
    """Build the ABS of Schott et al. 2019.

    Raises:
        InputError: sides of the images are neither even from 8 to 14 nor multiples of 4 from 16.

    >>> synthesis((1, 8, 8), classes=3).vaes.classes
    3
    """
    return AnalysisBySynthesis(ClassVAEs(shape, classes))


def binary_synthesis(shape: tuple[int, int, int], classes: int) -> AnalysisBySynthesis:
    """Build the Binary ABS of Schott et al. 2019, which binarises images first.

    >>> binary_synthesis((1, 8, 8), classes=3).binarise
    Binarise()
    """
    return AnalysisBySynthesis(ClassVAEs(shape, classes), binary=True)
