"""Figures 1 to 3: success of the attack against distance to the training data, for two feature extractors."""

from __future__ import annotations

from dataclasses import replace

from scotoma.papers.item import Context, Measured, number, row
from scotoma.papers.zhang2019 import how, images, settings
from scotoma.probes.distance.probe import Distance
from scotoma.results.finding import Finding, Row

EXTRACTORS = {"robust": "", "natural": "extractor_"}
"""Whose features, and what stands before their numbers and tables in the distance probe's finding."""

MEASURES = {
    "rank correlation": "spearman",
    "rank correlation at equal margin": "spearman_within_margin",
    "slope of distance": "slope_distance",
    "slope of margin": "slope_margin",
}
FIFTHS = {"success, nearest fifth": 0, "success, farthest fifth": -1}
RULE = (
    "reproduced if distance and smallest perturbation have a negative rank correlation whose interval excludes zero, in the "
    "features of the robust and of the natural model; else differs"
)


class SuccessOverDistance:
    """A figure with panels for the robust and the natural extractor. The attacked model is always the robust one."""

    title: str
    source: str
    models: tuple[str, ...]

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        attacked, extractor = self.models
        run = context.run(attacked)
        narrow = run.subset(run.correct_indices(images(context)))
        asked = replace(settings(context), extractor=context.model(extractor))
        found = Distance().measure(run.claim, narrow, asked)
        if found.verdict == "not applicable":
            return [], replace(found, probe=name, question=self.title, rule=RULE)
        rows = [
            each for which in EXTRACTORS for each in self._rows(found, which, run.claim.data.name)
        ]
        falls = all((found.numbers[f"{key}spearman_high"] or 0) < 0 for key in EXTRACTORS.values())
        return rows, replace(
            found,
            probe=name,
            question=self.title,
            verdict="reproduced" if falls else "differs",
            rule=RULE,
            headline=self._headline(found),
            notes=(how(context), "The paper prints curves and no numbers.", *found.notes),
        )

    @staticmethod
    def _rows(found: Finding, which: str, data: str) -> list[Row]:
        key, n = EXTRACTORS[which], found.numbers["n"]
        keys = {"data": data, "extractor": which, "left": None, "right": None}
        rows = [
            row(keys, measure, number(found.numbers, f"{key}{name}", n))
            for measure, name in MEASURES.items()
        ]
        rows += [
            row(keys, measure, success(found.tables[f"{key}fifths"][place]))
            for measure, place in FIFTHS.items()
        ]
        for each in found.tables[f"{key}bins"]:
            rows.append(
                row(keys | {"left": each["left"], "right": each["right"]}, "success", success(each))
            )
        return rows

    @staticmethod
    def _headline(found: Finding) -> str:
        parts = []
        for which, key in EXTRACTORS.items():
            near, far, overall, low, high, within = (
                found.numbers[f"{key}{name}"]
                for name in (
                    "nearest_fifth_success",
                    "farthest_fifth_success",
                    "spearman",
                    "spearman_low",
                    "spearman_high",
                    "spearman_within_margin",
                )
            )
            known = "undefined" if overall is None else f"{overall:.2f} ({low:.2f} to {high:.2f})"
            beyond = "" if within is None else f", {within:.2f} at equal margin"
            parts.append(
                f"in the {which} model's features success is {near:.1%} in the nearest fifth and {far:.1%} in the farthest, and "
                f"the rank correlation of distance and smallest perturbation {known}{beyond}"
            )
        text = "; ".join(parts)
        return f"{text[0].upper()}{text[1:]}."


def success(part: Row) -> Measured:
    """The rate in a row of the distance probe's bins or fifths."""
    return number(
        {"rate": part["rate"], "rate_low": part["low"], "rate_high": part["high"]},
        "rate",
        part["n"],
    )


class Figure1(SuccessOverDistance):
    """Attack success against distance to the training data on MNIST."""

    title = "Figure 1: success against distance on MNIST"
    source = "Zhang et al. 2019, section 4.2, Figure 1"
    models = ("mnist-pgd", "mnist-natural")


class Figure2(SuccessOverDistance):
    """Attack success against distance to the training data on Fashion-MNIST."""

    title = "Figure 2: success against distance on Fashion-MNIST"
    source = "Zhang et al. 2019, section 4.2, Figure 2"
    models = ("fashion-pgd", "fashion-natural")


class Figure3(SuccessOverDistance):
    """Attack success against distance to the training data on CIFAR-10."""

    title = "Figure 3: success against distance on CIFAR-10"
    source = "Zhang et al. 2019, section 4.2, Figure 3"
    models = ("cifar-robust", "cifar-natural")
