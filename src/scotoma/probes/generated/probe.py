"""Does the claim hold on valid images that a generative model makes?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from scotoma.attacks.strong import SEARCHES
from scotoma.claim import Claim
from scotoma.data.dataset import ArraySplit, Dataset
from scotoma.data.duplicates import first_of_copies
from scotoma.execution.effort import Least
from scotoma.execution.run import Attack, Run
from scotoma.models.classifier import Classifier
from scotoma.probes.base import Conclusion, Probe, Settings
from scotoma.probes.generated import report
from scotoma.probes.generated.analysis import Controls, GeneratedSet, Results
from scotoma.probes.generated.generators import (
    TRIAL,
    Generator,
    Sampler,
    checked,
    load_generator,
)
from scotoma.probes.generated.latent_search import REACH, STEPS, latent_search
from scotoma.probes.generated.small import default_generator
from scotoma.probes.robustness.verdict import BROKEN
from scotoma.results.finding import Finding
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.validity import ValidityOracle, oracle_for

MOST = 1000
"""Most images that are generated, if the number is not given."""
SHORT = 60
"""Gradient steps of the attack on ends of the latent search. Starts have the whole audit attack."""


@dataclass(frozen=True)
class Generated(Probe):
    """Attack images that a class-conditional generative model makes, if they are valid.

    Independent networks judge which images are valid (`scotoma.validity`). Accuracy and attack
    success on these are compared with those on the test set. A search in the latent space then
    looks near each valid image for one that the model misclassifies, or nearly misclassifies.

    Args:
        generator: a model of arch abs or flow, as a file or a module; "file.py:function" of a
            sampler; or the sampler itself. None is a reference model of the same data, or a small
            one that is trained now if that takes about a minute.
        images: number of images to generate; None is as many as are audited.
        most: most images, if their number is not given.
        search: whether to search in the latent space.
        broken: success rate on valid images above which the claim does not reach them.

    Raises:
        InputError: fewer than one image.

    Source:
        Zhang et al. 2019, sections 1 and 3.3; Song et al. 2018.

    Example:
        >>> Generated(images=100).question
        'Does the claim hold on valid images that a generative model makes?'
    """

    generator: str | Sampler | Generator | nn.Module | Classifier | None = None
    images: int | None = None
    most: int = MOST
    search: bool = True
    broken: float = BROKEN

    thresholds = ("broken",)
    leasts: ClassVar = {"most": Least(50, "generated images at most")}
    question = "Does the claim hold on valid images that a generative model makes?"

    def __post_init__(self):
        if self.images is not None and self.images < 1:
            raise InputError(f"images={self.images} of probe generated: want at least one")

    def prepare(self, claim: Claim) -> Self:
        if self.generator is None:
            return self
        generator = load_generator(self.generator)
        checked(generator, TRIAL, 0, claim.data)
        return replace(self, generator=generator)

    def provenance(self) -> dict[str, Any]:
        if self.generator is None:
            return {}
        generator = load_generator(self.generator)  # type: ignore[arg-type]
        return {"generator": {"name": generator.name, "sha256": generator.identity}}

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        generator = self._generator(claim, run)
        if generator is None:
            return self._not_applicable(
                f"There is no generator of {claim.data.name}. Train one (`scotoma train`, recipe "
                "abs or generator) or write a sampler, and pass it as generator=FILE or "
                "file.py:FUNCTION."
            )
        oracle = oracle_for(run)
        if oracle is None:
            return self._not_applicable(
                f"Data {claim.data.name} has no training split, or too small images, to train "
                "networks that judge which images are valid."
            )
        sample, latents = self._generate(run, generator, oracle)
        valid = sample.validity.valid
        if 2 * int(valid.sum()) < len(valid) or int(valid.sum()) < report.FEWEST:
            return partial(
                report.rejected,
                sample,
                self.question,
                self.broken,
                generator.name,
                oracle.calibration,
                claim.data.classes,
            )
        run.attack(settings.make_attack(claim.threat), what="the test set")
        attack = settings.make_attack(claim.threat, until=claim.threat.eps)
        sample = _attacked(sample, run, attack, sample.validity.valid.nonzero().squeeze(1))
        searched = None
        if self.search and generator.decode is not None and latents is not None:
            searched = _searched(sample, run, settings, generator, latents, oracle)
        real = claim.data.test.images(run.indices)
        labels = claim.data.test.labels[run.indices]
        results = Results(
            claim.threat,
            generator.name,
            sample,
            searched,
            oracle.judge(real, labels),
            float(sample.images.std((2, 3)).mean() / real.std((2, 3)).mean()),
            oracle.calibration,
            _controls(real, labels, len(claim.data.classes), oracle),
            claim.data.classes,
        )
        return partial(report.describe, results, self.question, self.broken, settings.attack)

    def valid_images(
        self, claim: Claim, run: Run, count: int, seed: int
    ) -> tuple[Tensor, Tensor, str] | None:
        """Return generated images that the oracle accepts, to learn from.

        Args:
            claim: whose data the images are like.
            run: a run of the claim.
            count: images that are generated; fewer may be valid.
            seed: decides the images; those that are measured have the seed of the run.

        Returns:
            Images (n, c, h, w) in [0, 1], labels int64 (n,) and the generator's name; None where
            there is no generator or no oracle.
        """
        generator, oracle = self._generator(claim, run), oracle_for(run)
        if generator is None or oracle is None:
            return None
        images, labels, _ = checked(generator, count, seed, claim.data)
        valid = oracle.judge(images, labels).valid
        return images[valid], labels[valid], generator.name

    def _generator(self, claim: Claim, run: Run) -> Generator | None:
        generator = default_generator(claim, run) if self.generator is None else self.generator
        return None if generator is None else load_generator(generator)  # type: ignore[arg-type]

    def _not_applicable(self, why: str) -> Conclusion:
        decides = report.rule(self.broken)
        return lambda ledger: Finding("generated", self.question, "not applicable", decides, why)

    def _generate(
        self, run: Run, generator: Generator, oracle: ValidityOracle
    ) -> tuple[GeneratedSet, Tensor | None]:
        """Return images that are generated once for a run and what the oracle says of them.

        Of equal images only the first counts.
        """
        data, count = run.claim.data, self.images or min(self.most, len(run.indices))

        def compute() -> pl.DataFrame:
            with run.progress.bar(f"generating by {generator.name}", 1) as advance:
                images, labels, latents = checked(generator, count, run.seed, data)
                advance(1)
            flat = {"image": images} if latents is None else {"image": images, "latent": latents}
            columns = {name: _packed(name, values) for name, values in flat.items()}
            return pl.DataFrame({"label": labels.numpy(), **columns})

        config = {"generator": generator.identity, "count": count, "seed": run.seed}
        table = run.table("generated", config, compute)
        images = _unpacked(table["image"], data.shape)
        labels = torch.from_numpy(table["label"].to_numpy(writable=True))
        latents = _unpacked(table["latent"]) if "latent" in table.columns else None
        first = first_of_copies(images)
        copies, images, labels = len(images) - len(first), images[first], labels[first]
        latents = None if latents is None else latents[first]
        return GeneratedSet(images, labels, oracle.judge(images, labels), copies=copies), latents


def _controls(real: Tensor, labels: Tensor, classes: int, oracle: ValidityOracle) -> Controls:
    """Return the first test images, every other one with the next class as its label."""
    n = min(2 * report.CONTROLS, len(real))
    wrong = torch.arange(n) % 2 == 1
    stated = torch.where(wrong, (labels[:n] + 1) % classes, labels[:n])
    return Controls(real[:n], stated, wrong, oracle.judge(real[:n], stated))


def _attacked(sample: GeneratedSet, run: Run, attack: Attack, rows: Tensor) -> GeneratedSet:
    """Attack some of the images, and keep the run on them."""
    if not len(rows):
        return sample
    data = run.claim.data
    split = ArraySplit(sample.images.numpy(), sample.labels.numpy(), "generated images")
    dataset = Dataset("generated images", split, data.train, data.classes, split.sha256)
    apart = run.aside(dataset, rows)
    apart.attack(attack, what="generated images")
    return replace(sample, run=apart)


def _short_attack(threat: Threat, settings: Settings) -> Attack:
    """Return the attack on the ends of searches: one search, unless the model needs another."""
    if settings.attack != "strong" or not settings.plan.clean:
        return settings.make_attack(threat, until=threat.eps)
    return SEARCHES[threat.norm](threat.norm, steps=SHORT, restarts=0, until=threat.eps)


def _searched(
    sample: GeneratedSet,
    run: Run,
    settings: Settings,
    generator: Generator,
    latents: Tensor,
    oracle: ValidityOracle,
) -> GeneratedSet:
    """Search from every valid image, judge the ends, and attack them.

    Only ends that can add something are attacked: those whose start withstands the attack.
    """
    rows = sample.validity.valid.nonzero().squeeze(1)
    decode = generator.decode
    assert decode is not None

    def on_device(z: Tensor, labels: Tensor) -> Tensor:
        return decode(z, labels).to(run.device)

    def search(batch: Tensor) -> dict[str, np.ndarray]:
        starts, classes = (each[rows[batch]].to(run.device) for each in (latents, sample.labels))
        ends = latent_search(run.model, on_device, starts, classes)
        columns = {"image": ends.images.flatten(1), "margin": ends.margins, "moved": ends.moved}
        return {name: each.cpu().numpy() for name, each in columns.items()}

    def compute() -> pl.DataFrame:
        with run.progress.bar("searching latents", len(rows)) as advance, run.seeded():
            parts = run.map_batches(torch.arange(len(rows)), search, advance)
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return pl.DataFrame(arrays | {"image": _packed("image", arrays["image"])})

    config = {
        "generator": generator.identity,
        "starts": sample.images[rows].double().sum().item(),
        "seed": run.seed,
        "steps": STEPS,
        "reach": REACH,
    }
    table = run.table("latent search", config, compute)
    images = _unpacked(table["image"], run.claim.data.shape).clamp_(0, 1)
    labels = sample.labels[rows]
    validity = oracle.judge(images, labels)
    ends = GeneratedSet(images, labels, validity, starts=rows)
    withstands = torch.ones(len(sample.labels), dtype=torch.bool)
    withstands[sample.rows.filter(sample.is_fooled(run.claim.threat))["index"].to_torch()] = False
    wrong = torch.from_numpy(table["margin"].to_numpy(writable=True)) < 0
    adding = validity.valid & (withstands[rows] | wrong)
    attack = _short_attack(run.claim.threat, settings)
    return _attacked(ends, run, attack, adding.nonzero().squeeze(1))


def _packed(name: str, values: Tensor | np.ndarray) -> pl.Series:
    flat = np.asarray(values, np.float32).reshape(len(values), -1)
    return pl.Series(name, flat, dtype=pl.Array(pl.Float32, flat.shape[1]))


def _unpacked(column: pl.Series, shape: tuple[int, ...] = ()) -> Tensor:
    flat = torch.from_numpy(np.stack(list(column.to_numpy())).copy())
    return flat.view(len(flat), *(shape or flat.shape[1:]))
