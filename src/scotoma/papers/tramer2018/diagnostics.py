"""What single-step training does to the gradient, and what ensemble training undoes."""

from __future__ import annotations

from collections.abc import Callable

from scotoma.papers.item import SUMMARY, Context, Measured, row
from scotoma.papers.tramer2018 import published
from scotoma.papers.tramer2018.diagnosis import STEPS, Diagnosis, diagnose
from scotoma.probes.base import columns
from scotoma.results.finding import Curve, Finding, Row
from scotoma.utils.stats import Estimate, finite, rate

SHARES = tuple(eps / published.IMAGENET_THREAT.eps for eps in published.FIGURE2.eps)
"""Sizes of the directions: the paper's, as shares of eps."""
MANY = (1, 25, 50, 90)
"""Numbers of directions that have a row."""
DRAWN = (1, *range(5, 101, 5))
"""And that stand in the figures."""

Found = dict[str, Diagnosis]
"""By training."""


class Diagnostics:
    """Loss ratio, cosine, gradient norm and adversarial directions of model A on MNIST, and the paper's of ImageNet."""

    title = "Model A on MNIST: what natural, FGSM and ensemble training do to the gradient"
    source = "Tramer et al. 2018, section 4.1"
    trainings = {"natural": "tramer-a", "fgsm": "tramer-a-fgsm", "ensemble": "tramer-a-ensemble12"}
    counterparts = {"natural": "v3", "fgsm": "v3adv", "ensemble": "v3adv-ens4"}
    """The paper's network on ImageNet that was trained alike."""

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.trainings.values())

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        found: Found = {}
        with context.progress.bar(self.title, len(self.trainings)) as advance:
            for training, model in self.trainings.items():
                found[training] = diagnose(context, model, SHARES)
                advance(1)
        checks = self.checks(found)
        held = sum(check["holds"] for check in checks)
        fgsm = found["fgsm"]
        directions = {f"directions_{eps:.3g}": _shares(found, eps) for eps in fgsm.directions}
        return [
            line for training in found for line in self._rows(context, training, found[training])
        ], Finding(
            probe=name,
            question=self.title,
            verdict="reproduced" if held == len(checks) else "differs",
            rule=(
                "reproduced if after FGSM training one step finds a smaller share of the iterated attack's loss than after natural "
                "and after ensemble training, the two perturbations agree less than after natural training, and at eps fewer "
                "images have an adversarial direction than after natural training, each with 95% intervals that do not meet; else "
                "differs"
            ),
            headline=(
                f"Mean loss after one step, over that after {STEPS}: "
                f"{_each(found, lambda each: each.steps.ratio)}. Cosine of the two perturbations: "
                f"{_each(found, lambda each: each.steps.mean_cosine)}. {held} of {len(checks)} comparisons are as in the paper on "
                f"ImageNet{_failing(checks)}."
            ),
            numbers={"n": len(fgsm.norms), "checks": len(checks), "checks_held": held},
            tables={
                SUMMARY: [self._summary(training, each) for training, each in found.items()],
                "checks": checks,
                **directions,
                "imagenet_in_the_paper": [_printed(network) for network in published.LOSS_RATIO],
            },
            figures=tuple(
                _curve(eps, table) for eps, table in zip(fgsm.directions, directions, strict=True)
            ),
            notes=self._notes(context, fgsm),
        )

    @staticmethod
    def checks(found: Found) -> list[Row]:
        """What the paper finds on ImageNet, as comparisons of two values whose intervals must not meet."""
        natural, fgsm, ensemble = (found[training] for training in ("natural", "fgsm", "ensemble"))
        eps = max(fgsm.directions)
        some = {training: rate(each.directions[eps] > 0) for training, each in found.items()}
        compared = {
            "loss ratio: fgsm below natural": (fgsm.steps.ratio, natural.steps.ratio),
            "loss ratio: fgsm below ensemble": (fgsm.steps.ratio, ensemble.steps.ratio),
            "cosine: fgsm below natural": (fgsm.steps.mean_cosine, natural.steps.mean_cosine),
            "images with an adversarial direction: fgsm below natural": (
                some["fgsm"],
                some["natural"],
            ),
        }
        return [
            {
                "check": what,
                **columns("lower", low),
                **columns("higher", high),
                "n": low.n,
                "holds": bool(low.high < high.low),
            }
            for what, (low, high) in compared.items()
        ]

    def _rows(self, context: Context, training: str, each: Diagnosis) -> list[Row]:
        model = self.trainings[training]
        data = context.data(model).name

        def line(measure: str, value: Measured, eps: float | None = None) -> Row:
            return row(
                {"data": data, "model": model, "eps": finite(eps) if eps else None}, measure, value
            )

        rows = [
            line("loss ratio", each.steps.ratio),
            line("cosine", each.steps.mean_cosine),
            line("gradient norm", each.norm),
        ]
        for eps, counts in each.directions.items():
            rows += [
                line(f"at least {k} adversarial directions", rate(counts >= k), eps) for k in MANY
            ]
        return rows

    def _summary(self, training: str, each: Diagnosis) -> Row:
        """A model beside the paper's network on ImageNet that was trained alike."""
        network = self.counterparts[training]
        return {
            "model": self.trainings[training],
            **columns("loss_ratio", each.steps.ratio),
            **columns("cosine", each.steps.mean_cosine),
            **columns("gradient_norm", each.norm),
            "n": len(each.norms),
            "paper": f"{network} on ImageNet",
            "paper_loss_ratio": published.LOSS_RATIO[network],
            "paper_cosine": published.COSINE.get(network),
        }

    def _notes(self, context: Context, found: Diagnosis) -> tuple[str, ...]:
        paper = published.FIGURE2
        (k, share), (first, second) = paper.natural, published.GRADIENT_NORMS
        sizes, orders = (
            ", ".join(f"{each:.3g}" for each in those) for those in (found.directions, found.orders)
        )
        return (
            f"Losses, cosines and gradients on {len(found.norms):,} test images drawn at random (seed {context.seed}). The "
            f"iterated attack takes {STEPS} steps of eps / {STEPS}. Norms are L2, of the cross-entropy's gradient by the image.",
            f"Directions on at most {paper.images} images that the model classifies correctly, as in the paper, at eps {sizes}: "
            "the same shares of eps as the paper's 4, 10 and 16 of 256. Tried are "
            f"{orders} directions, each number for itself; an image has the most that one of them gives. How the paper chooses is "
            "unknown to us.",
            "The paper's figures are of ImageNet, and stand here for their order alone. There "
            f"{published.NETWORKS['v3']} has more than {k} adversarial directions at {share:.0%} of images; after adversarial "
            f"training about {paper.none:.0%} of images have none, and most others {paper.others} or more. The mean gradient norms "
            f"of the two are {first:.2f} and {second:.2f} (which is whose is unknown to us): the trained loss is not simply flat.",
        )


def _failing(checks: list[Row]) -> str:
    """What does not hold, as the end of a sentence."""
    said = "; ".join(check["check"] for check in checks if not check["holds"])
    return said and f"; not so, or not beyond noise: {said}"


def _shares(found: Found, eps: float) -> list[Row]:
    """P(at least k directions) against k."""
    return [
        {
            "training": training,
            "k": k,
            **columns("share", rate(each.directions[eps] >= k)),
            "n": len(each.directions[eps]),
        }
        for training, each in found.items()
        for k in DRAWN
    ]


def _curve(eps: float, table: str) -> Curve:
    return Curve(
        table,
        f"Share of images with at least k orthogonal directions of size {eps:.3g} that change the label, by training, with 95% "
        "intervals (the paper's Figure 2 shows the same on ImageNet).",
        table=table,
        x="k",
        y="share",
        low="share_low",
        high="share_high",
        group="training",
        x_label="adversarial directions, at least",
        y_label="share of images",
    )


def _printed(network: str) -> Row:
    return {
        "network": published.NETWORKS[network],
        "loss_ratio": published.LOSS_RATIO[network],
        "cosine": published.COSINE.get(network),
    }


def _each(found: Found, value: Callable[[Diagnosis], Estimate]) -> str:
    estimates = {training: value(each) for training, each in found.items()}
    return ", ".join(
        f"{training} {each.value:.2f} ({each.low:.2f} to {each.high:.2f})"
        for training, each in estimates.items()
    )
