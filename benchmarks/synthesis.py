"""Prediction by analysis by synthesis, in batches, beside the loop over images and classes."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from harness import DIGITS, Claim, Options, loaded
from measuring import Spent, fresh, peak, spending
from page import Section
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.models.vae import LATENT, ClassVAEs
from scotoma.threat import Threat
from scotoma.training.loop import Schedule, train


class Loop:
    """The best of the samples, then Adam on one latent through the plain decoder of one class."""

    @torch.no_grad()
    def __init__(self, model: AnalysisBySynthesis):
        bank, self.model = model._kept.bank, model
        assert bank is not None, "the model has made the samples' images before"
        self.samples, latents = bank.samples, bank.samples.view(-1, LATENT, 1, 1).split(100)
        self.decoders = [decoder_of(model.vaes, label) for label in range(model.vaes.classes)]
        self.made = [torch.cat([decoder(part) for part in latents]) for decoder in self.decoders]
        self.costs = model.beta / 2 * self.samples.square().sum(1)

    def losses(self, images: Tensor) -> Tensor:
        """(n, classes)."""
        classes = range(self.model.vaes.classes)
        rows = [[self.loss(image, label) for label in classes] for image in images]
        return torch.tensor(rows) * self.model.scales

    def loss(self, image: Tensor, label: int) -> float:
        def bound(z: Tensor) -> Tensor:
            made = self.decoders[label](z.view(1, LATENT, 1, 1))
            return (image - made).square().sum() + self.model.beta / 2 * z.square().sum()

        missed = (self.made[label] - image).square().sum((1, 2, 3))
        z = self.samples[(missed + self.costs).argmin()].clone().requires_grad_()
        optimizer = torch.optim.Adam([z], self.model.rate)
        for _ in range(self.model.steps):
            optimizer.zero_grad()
            bound(z).backward()
            optimizer.step()
            with torch.no_grad():
                z.mul_(self.model.radius / z.norm().clamp_min(self.model.radius))
        with torch.no_grad():
            return float(bound(z))


def decoder_of(vaes: ClassVAEs, label: int) -> nn.Module:
    """The decoder of one class, as a plain network."""
    alone = ClassVAEs(vaes.shape, 1).decoder
    state = vaes.decoder.state_dict().items()
    alone.load_state_dict({k: v.chunk(vaes.classes)[label] if v.ndim else v for k, v in state})
    return alone.eval().requires_grad_(False)


def synthesis_model(options: Options) -> tuple[Dataset, AnalysisBySynthesis]:
    """MNIST with `mnist-abs`; the digits, if `--data` names them, with a model trained here."""
    file = DIGITS.with_name("digits-abs.safetensors")
    if options.data == "digits":
        if not file.exists():
            print(f"training the digits model into {file}")
            digits, schedule = load_data("digits"), Schedule(epochs=20, peak=3e-3)
            train("abs", digits, "abs", Threat("l2", 1.5), file, schedule=schedule)
        options = replace(options, model=str(file))
    classifier, data = loaded(options, "mnist-abs")
    assert isinstance(classifier.module, AnalysisBySynthesis)
    return data, classifier.module


def synthesis_peak(images: int, options: dict[str, Any]) -> float:
    """Peak memory in GiB of this process after a prediction of so many images."""
    data, model = synthesis_model(Options(**options))
    model(data.test.images(torch.arange(images)))
    return peak() / 1024


def prediction(options: Options, count: int = 50, looped: int = 2, memory: bool = False) -> Section:
    """Analysis by synthesis in batches beside the loop over images and classes."""
    data, model = synthesis_model(options)
    images = data.test.images(torch.arange(count))
    model(images[:1])  # makes the samples' images, which both use
    loop, times, losses = Loop(model), dict[bool, Spent](), dict[bool, Tensor]()
    for race in (True, False) if memory else (True,):
        model.race = race
        with spending() as times[race], torch.no_grad():
            losses[race] = model(images)[:looped] / -model.sharpness
    with spending() as spent:
        expected = loop.losses(images[:looped])
    for race, found in losses.items():
        apart = (expected.sort(1).values - found.sort(1).values).abs()[:, : 2 if race else None]
        each = times[race].seconds / count
        print(f"{each:.4f} s an image, losses differ by up to {apart.max():.2g}")
    equal = int((expected.argmin(1) == losses[True].argmin(1)).sum())
    alone, each = spent.seconds / looped, times[True].seconds / count
    claims = [
        Claim("times as fast as the loop", alone / each, 20, True),
        Claim("labels that are those of the loop", equal, looped, True),
    ]
    if memory:
        given = vars(options) | {"data_root": options.data_root and str(options.data_root)}
        gib = fresh("synthesis", "synthesis_peak", count, given, threads=options.threads)
        claims.append(Claim("peak memory, GiB", gib, 3))
    intro = (
        f"The `abs` model of {data.name}: {model.samples:,} samples and {model.steps} steps for "
        f"each class. The plain loop over images and classes, on {looped} images, beside the "
        f"batched prediction of {count}; {equal} of {looped} labels agree."
    )
    mine = f"{each * 1000:,.0f}", f"{times[True].mib:,.0f}", f"{each / alone:.4f}"
    rows = [["loop", "", f"{alone * 1000:,.0f}", "", "1"], ["ours", "", *mine]]
    heads = ["prediction", "", "ms an image", "MiB", "time, ratio"]
    return Section(intro, heads, rows, claims)
