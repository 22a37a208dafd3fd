"""Training on R+FGSM: a model that withstands the attack that it was trained on, and no iterated one."""

from __future__ import annotations

from scotoma.papers.item import Context, row
from scotoma.papers.tramer2018 import how, published
from scotoma.papers.tramer2018.checks import paired
from scotoma.papers.tramer2018.errors import white_box
from scotoma.papers.tramer2018.suites import FGSM_SUITE
from scotoma.probes.base import columns
from scotoma.reference import recipe_of
from scotoma.results.finding import Bars, Finding, Row
from scotoma.utils.stats import Rate, rate

TRAINED_ON, ITERATED = "R+FGSM", "PGD-20"
PRINTED = {
    TRAINED_ON: f"above {published.RAND_FGSM_ACCURACY:.0%}",
    ITERATED: f"{published.RAND_FGSM_PGD_ACCURACY:.1%}",
}


class RandFGSMTraining:
    """Accuracy under R+FGSM and under PGD-20 of model A on MNIST after R+FGSM training."""

    title = "Model A on MNIST after R+FGSM training: R+FGSM against PGD-20"
    source = "Tramer et al. 2018, R+FGSM training on MNIST"
    models = ("tramer-a-rand-fgsm",)

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        (model,) = self.models
        clean, own = white_box(context, model, FGSM_SUITE.white_box)
        rates = {attack: rate(~wrong) for attack, wrong in {"none": clean, **own}.items()}
        epochs, n = recipe_of(model).schedule.epochs, len(clean)
        rows = [self._row(attack, found) for attack, found in rates.items()]
        return rows, Finding(
            probe=name,
            question=self.title,
            verdict="reproduced" if self.as_published(rates) else "differs",
            rule=(
                f"reproduced if accuracy is above {published.RAND_FGSM_ACCURACY:.0%} under {TRAINED_ON} and under {ITERATED} less "
                "than half of that, both with their 95% intervals; else differs"
            ),
            headline=(
                f"After {epochs} epochs of {TRAINED_ON} training, accuracy is {rates[TRAINED_ON].value:.1%} under {TRAINED_ON} and "
                f"{rates[ITERATED].value:.1%} under {ITERATED}; in the paper, after {published.RAND_FGSM_EPOCHS} epochs, "
                f"{PRINTED[TRAINED_ON]} and {PRINTED[ITERATED]}."
            ),
            numbers={"n": n, **columns("difference", paired(own[ITERATED], own[TRAINED_ON]))},
            tables={
                "accuracy": [
                    {"attack": attack, **columns("accuracy", found), "n": n}
                    for attack, found in rates.items()
                ]
            },
            figures=(
                Bars(
                    "accuracy",
                    f"Accuracy of {model} without an attack and under attacks on itself, with 95% intervals.",
                    table="accuracy",
                    label="attack",
                    series={"accuracy": ("accuracy", "accuracy_low", "accuracy_high")},
                    y_label="accuracy",
                ),
            ),
            notes=(
                how(context, n),
                f"Ours is trained for {epochs} epochs, the paper's for {published.RAND_FGSM_EPOCHS}: the two accuracies under "
                f"{ITERATED} need not agree.",
            ),
        )

    @staticmethod
    def as_published(rates: dict[str, Rate]) -> bool:
        """The rule of the verdict."""
        trained, iterated = rates[TRAINED_ON], rates[ITERATED]
        return trained.low > published.RAND_FGSM_ACCURACY and iterated.high < trained.low / 2

    @staticmethod
    def _row(attack: str, found: Rate) -> Row:
        printed = published.RAND_FGSM_PGD_ACCURACY if attack == ITERATED else None
        return row({"attack": attack, "paper": PRINTED.get(attack)}, "accuracy", found, printed)
