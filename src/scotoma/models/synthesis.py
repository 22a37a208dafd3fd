"""Analysis by synthesis: a class is as likely as its own generative model can reproduce the image (Schott et al. 2019)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.binarise import Binarise
from scotoma.models.decoders import CACHED, Decoders
from scotoma.models.vae import LATENT, ClassVAEs

DROPPED = 0.1
"""Share of the drawn latents that are left out, the least likely."""
TOGETHER = 256
"""Images whose latents descend at once on a CPU; on an accelerator all do."""
RACE = {0: 1.6, 5: 1.4, 10: 1.25, 20: 1.15}
"""By step, the share of the best class's loss beyond which a class has lost. On images of five kinds none beyond it ended within
1.12 times the best (docs/log.md)."""
BETAS, STABILITY = (0.9, 0.999), 1e-8
"""Adam's."""
BEST = 3
"""Classes of an image that stay in the race whatever their loss."""
SHARPNESS, FLOOR = 440 / 784, math.log(3.9e-5)
"""Of the posterior on MNIST (the authors' code, whose loss is per value of 784); the floor as a logarithm, which half precision
keeps."""
SHARPNESSES = torch.logspace(-2, 2, 401)
EXPLAINED = 0.01
"""Share of the images that are explained so badly that the floor outweighs their own class."""


class Synthesis(NamedTuple):
    """What each class makes of images."""

    losses: Tensor
    """(n, classes): the negative evidence bounds, up to a factor"""
    latents: Tensor
    """(n, classes, LATENT)"""
    images: Tensor
    """(n, classes, c, h, w): the reconstructions"""


class AnalysisBySynthesis(nn.Module):
    """The class whose decoder comes nearest to the image, by gradient descent in its latent space.

    The loss of a class is min over z of |x - G(z)|^2 + beta |z|^2 / 2 (the bound with a posterior of unit variance around z).
    z begins at the best of `samples` latents, the same for all classes and images, and takes `steps` steps of Adam inside a ball
    (section 3 and the authors' code, which divides the loss by the values of an image). Logits are `sharpness` times the negative
    losses; buffers `sharpness` and `floor` are the authors' for MNIST until `calibrate` has fitted them.

    A class that has lost the race for the smallest loss, by `RACE`, leaves the search with the latent that it has, save for the
    `BEST` ones. The loss of such a class is an upper bound of what it would have reached.

    The gradient by the image is that of the loss with z held: at a minimum over z that is the whole gradient. Where the search
    has not quite ended there, `unrolled` gives the gradient through all of its steps, at several times the cost and memory.

    Args:
        vaes: the generative models.
        binary: the image is binarised first, and no gradient by it is left.
        scales: what the loss of each class is multiplied by; None is 1.
        samples, steps, rate, radius: of the search for z.
        beta: weight of the latent's own likelihood.
        seed: of the samples; see `draw`.
        unrolled: differentiate through the search.
        race: classes that have lost leave the search; else all take all steps, as with `unrolled`.
    """

    precise = True
    """All of it is in float32: the search for z amplifies rounding."""

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
        """Where a hook sees the `Synthesis` behind the logits."""
        self._kept = _Kept()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes)."""
        return -self.sharpness * self.explanation(self.synthesise(images)).losses

    def posterior(self, images: Tensor) -> Tensor:
        """Calibrated probabilities (n, classes), flat where no class explains the image (section 3, eq. 8)."""
        return self.probabilities(self(images))

    def probabilities(self, logits: Tensor) -> Tensor:
        """e^l + e^floor over their sum, of logits l, (n, classes)."""
        return torch.logaddexp(logits, self.floor).softmax(1)

    @torch.no_grad()
    def calibrate(self, images: Tensor, labels: Tensor) -> None:
        """Fit `sharpness`, by which the labels are likeliest, and `floor`, that of the images which are explained worst."""
        losses = torch.cat([self.synthesise(part).losses for part in images.split(TOGETHER)])
        likelihoods = [F.cross_entropy(-sharpness * losses, labels) for sharpness in SHARPNESSES]
        self.sharpness.fill_(SHARPNESSES[int(torch.stack(likelihoods).argmin())])
        self.floor.copy_((-self.sharpness * losses.gather(1, labels[:, None])).quantile(EXPLAINED))

    def synthesise(self, images: Tensor, beta: float | None = None) -> Synthesis:
        """Losses, latents and reconstructions of every class; `beta` is another than the model's, without a race: 0 looks for the
        nearest image of each class."""
        beta = self.beta if beta is None else beta
        with torch.autocast(images.device.type, enabled=False):
            seen = self.binarise(images.float())
            bank = self._prepared(seen.device)
            together = TOGETHER if seen.device.type == "cpu" else max(1, len(seen))
            starts = bank.nearest(seen.detach())
            parts = [
                self._explain(bank, beta, *part)
                for part in zip(seen.split(together), starts.split(together), strict=True)
            ]
            return Synthesis(*map(torch.cat, zip(*parts, strict=True)))

    def draw(self, seed: int) -> None:
        """Draw the samples anew, for expectations over them."""
        self.seed = seed
        self._kept.bank = None

    def train(self, mode: bool = True) -> AnalysisBySynthesis:
        self._kept.bank = None
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> AnalysisBySynthesis:
        self._kept.bank = None  # weights may have moved, or changed their type
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._kept.bank = None
        super()._load_from_state_dict(*args, **kwargs)

    def _prepared(self, device: torch.device) -> _Bank:
        if self._kept.bank is None:
            self._kept.bank = _Bank(self.vaes, self.samples, self.beta, self.seed, device)
        return self._kept.bank

    def _explain(self, bank: _Bank, beta: float, images: Tensor, latents: Tensor) -> Synthesis:
        """Descend from the latents given."""
        unrolled = self.unrolled and images.requires_grad
        descend = self._unroll if unrolled else self._descend
        z = descend(bank, beta, images, latents)
        losses, made = _losses(bank, beta, images, z)
        return Synthesis(losses * self.scales, z, made)

    @torch.no_grad()
    def _descend(self, bank: _Bank, beta: float, images: Tensor, latents: Tensor) -> Tensor:
        """State is of pairs of a class and an image, ordered by class, that are still in the race."""
        n, classes = latents.shape[:2]
        found = latents.transpose(0, 1).flatten(0, 1)  # of the pair class * n + image
        race = RACE if self.race and beta == self.beta else {}
        pairs, z = torch.arange(len(found), device=found.device), found.clone()
        mean, square, seen, counts = (
            torch.zeros_like(z),
            torch.zeros_like(z),
            images.repeat(classes, 1, 1, 1),
            [n] * classes,
        )
        for step in range(self.steps):
            missed, slope = bank.decoders.slope(seen, z, counts)
            if step in race:
                losses = (missed + beta / 2 * z.square().sum(1)) * self.scales[pairs // n]
                stay = _in_race(losses, pairs, n, classes, race[step])
                found[pairs] = z
                pairs, z, mean, square, seen, slope = (
                    part[stay] for part in (pairs, z, mean, square, seen, slope)
                )
                counts = torch.bincount(pairs // n, minlength=classes).tolist()
            slope.add_(z, alpha=beta)
            mean.lerp_(slope, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(slope, slope, value=1 - BETAS[1])
            sizes = (square / (1 - BETAS[1] ** (step + 1))).sqrt_().add_(STABILITY)
            z.addcdiv_(mean, sizes, value=-self.rate / (1 - BETAS[0] ** (step + 1)))
            z.mul_(self.radius / z.norm(dim=1, keepdim=True).clamp_min_(self.radius))
        found[pairs] = z
        return found.view(classes, n, LATENT).transpose(0, 1)

    def _unroll(self, bank: _Bank, beta: float, images: Tensor, latents: Tensor) -> Tensor:
        """The same steps, which autograd can follow back to the images."""
        z = latents.clone().requires_grad_()
        mean, square = torch.zeros_like(z), torch.zeros_like(z)
        for step in range(1, self.steps + 1):
            losses, _ = _losses(bank, beta, images, z)
            (slope,) = torch.autograd.grad(losses.sum(), z, create_graph=True)
            mean = torch.lerp(mean, slope, 1 - BETAS[0])
            square = BETAS[1] * square + (1 - BETAS[1]) * slope.square()
            sizes = (
                square / (1 - BETAS[1] ** step) + STABILITY**2
            ).sqrt()  # inside the root, whose own slope at 0 is infinite
            z = z - self.rate / (1 - BETAS[0] ** step) * mean / sizes
            z = z * (self.radius / z.norm(dim=2, keepdim=True).clamp_min(self.radius))
        return z


class _Kept:
    """A bank for as long as the weights stay; no part of the model's state."""

    bank: _Bank | None = None


class _Bank:
    """What the weights and the seed decide: the decoders, and the images of the samples."""

    @torch.no_grad()
    def __init__(self, vaes: ClassVAEs, samples: int, beta: float, seed: int, device: torch.device):
        self.decoders = Decoders(vaes)
        drawn = torch.randn(
            round(samples / (1 - DROPPED)), LATENT, generator=torch.Generator().manual_seed(seed)
        )
        self.samples = drawn[drawn.norm(dim=1).argsort()[:samples]].to(device)
        parts = [
            [decoder.decode(part).flatten(1) for part in self.samples.split(CACHED)]
            for decoder in self.decoders.each
        ]
        self.images = torch.stack([torch.cat(of_class) for of_class in parts])
        self.offsets = self.images.square().sum(2) + beta / 2 * self.samples.square().sum(1)

    def nearest(self, images: Tensor) -> Tensor:
        """The best sample of each class, (n, classes, LATENT)."""
        flat = images.flatten(1)
        pairs = zip(self.offsets, self.images, strict=True)
        best = [torch.addmm(offset, flat, made.T, alpha=-2).argmin(1) for offset, made in pairs]
        return self.samples[torch.stack(best, 1)]


def _losses(bank: _Bank, beta: float, images: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
    made = bank.decoders.decode(latents)
    missed = (images[:, None] - made).square().flatten(2).sum(2)
    return missed + beta / 2 * latents.square().sum(2), made


def _in_race(losses: Tensor, pairs: Tensor, n: int, classes: int, lead: float) -> Tensor:
    """Which pairs are among the `BEST` of their image, or within `lead` times its best; `losses` are theirs."""
    table = (
        losses.new_full((classes * n,), torch.inf).index_copy_(0, pairs, losses).view(classes, n)
    )
    best = table.topk(min(BEST, classes), dim=0, largest=False).values
    return losses <= torch.maximum(best[0] * lead, best[-1])[pairs % n]


def inside(module: nn.Module) -> AnalysisBySynthesis | None:
    """The analysis by synthesis that a module is or wraps; None where there is none."""
    return next((part for part in module.modules() if isinstance(part, AnalysisBySynthesis)), None)


def synthesis(shape: tuple[int, int, int], classes: int) -> AnalysisBySynthesis:
    """The paper's ABS."""
    return AnalysisBySynthesis(ClassVAEs(shape, classes))


def binary_synthesis(shape: tuple[int, int, int], classes: int) -> AnalysisBySynthesis:
    """The paper's Binary ABS: the same generative models, asked of the binarised image."""
    return AnalysisBySynthesis(ClassVAEs(shape, classes), binary=True)
