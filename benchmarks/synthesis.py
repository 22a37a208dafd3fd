"""Prediction by analysis by synthesis, in batches, beside the loop over images and classes."""

from pathlib import Path

import torch
from torch import Tensor, nn

from harness import DIGITS, ZOO, Claim, Options
from measuring import clock, fresh, peak, resident
from page import Section
from scotoma.claim import Threat
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.models.loading import load_model
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.models.vae import LATENT, ClassVAEs
from scotoma.training.loop import Schedule, train
from scotoma.utils.errors import InputError


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


def synthesis_model(data: str | None, root: str | None) -> tuple[Dataset, AnalysisBySynthesis]:
    """MNIST with `mnist-abs`; the digits with a model trained here if that is missing or named."""
    file, loaded = ZOO / "mnist-abs.safetensors", None
    if data != "digits":
        try:
            loaded = load_data("mnist", Path(root) if root else None)
        except InputError:
            if data:
                raise
    if loaded is None or not file.exists():
        file, loaded = DIGITS.with_name("digits-abs.safetensors"), load_data("digits")
        if not file.exists():
            print(f"training the digits model into {file}")
            schedule = Schedule(epochs=20, peak=3e-3)
            train("abs", loaded, "abs", Threat("l2", 1.5), file, schedule=schedule)
    module = load_model(str(file)).module
    assert isinstance(module, AnalysisBySynthesis)
    return loaded, module


def synthesis_peak(images: int, threads: int, data: str | None, root: str | None) -> float:
    """Peak memory in GiB of this process after a prediction of so many images."""
    torch.set_num_threads(threads)
    loaded, model = synthesis_model(data, root)
    model(loaded.test.images(torch.arange(images)))
    return resident("VmHWM") / 1024


def prediction(options: Options, count: int = 50, looped: int = 2, memory: bool = False) -> Section:
    """Analysis by synthesis in batches beside the loop over images and classes."""
    torch.set_num_threads(options.threads)
    root = str(options.data_root) if options.data_root else None
    data, model = synthesis_model(options.data, root)
    images = data.test.images(torch.arange(count))
    model(images[:1])  # makes the samples' images, which both use
    loop, seconds, losses, mib = Loop(model), {}, {}, 0.0
    for race in (True, False) if memory else (True,):
        model.race = race
        with peak(images.device) as more, torch.no_grad():
            start = clock()
            losses[race] = model(images)[:looped] / -model.sharpness
            seconds[race] = (clock() - start) / count
        mib = mib or more[0]
    start = clock()
    expected = loop.losses(images[:looped])
    alone, each = (clock() - start) / looped, seconds[True]
    for race, found in losses.items():
        apart = (expected.sort(1).values - found.sort(1).values).abs()[:, : 2 if race else None]
        print(f"{seconds[race]:.4f} s an image, losses differ by up to {apart.max():.2g}")
    equal = int((expected.argmin(1) == losses[True].argmin(1)).sum())
    claims = [
        Claim("times as fast as the loop", alone / each, 20, True),
        Claim("labels that are those of the loop", equal, looped, True),
    ]
    if memory:
        given = count, options.threads, options.data, root
        gib = fresh("synthesis", "synthesis_peak", *given, threads=options.threads)
        claims.append(Claim("peak memory, GiB", gib, 3))
    intro = (
        f"The `abs` model of {data.name}: {model.samples:,} samples and {model.steps} steps for "
        f"each class. The plain loop over images and classes, on {looped} images, beside the "
        f"batched prediction of {count}; {equal} of {looped} labels agree."
    )
    mine = f"{each * 1000:,.0f}", f"{mib:,.0f}", f"{each / alone:.4f}"
    rows = [["loop", "", f"{alone * 1000:,.0f}", "", "1"], ["ours", "", *mine]]
    heads = ["prediction", "", "ms an image", "MiB", "time, ratio"]
    return Section(intro, heads, rows, claims)
