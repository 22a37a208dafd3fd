"""The MNIST study of the appendix: models A to D."""

from __future__ import annotations

from scotoma.papers.item import Context
from scotoma.papers.tramer2018.study import Study
from scotoma.papers.tramer2018.suites import FGSM_SUITE

TRAININGS = {
    "natural": "",
    "fgsm": "-fgsm",
    "ensemble, 6 epochs": "-ensemble6",
    "ensemble, 12 epochs": "-ensemble12",
}
"""And what stands behind the network's name in the reference model's."""


class Mnist(Study):
    """White-box and black-box errors of models A to D on MNIST after natural, FGSM and ensemble training."""

    title = "Models A to D on MNIST: errors after natural, FGSM and ensemble training"
    source = "Tramer et al. 2018, appendix on MNIST"
    suite = FGSM_SUITE
    recipe = "fgsm"
    networks = {
        letter.upper(): {way: f"tramer-{letter}{end}" for way, end in TRAININGS.items()}
        for letter in "abcd"
    }
    held_out = ("tramer-b", "mnist-natural", "mnist-pgd")
    seen = ("tramer-a", "tramer-c", "tramer-d")

    def _notes(self, context: Context) -> tuple[str, ...]:
        return (
            *super()._notes(context),
            "The paper's MNIST tables are unknown to us: ours stand alone, and the verdict is on the paper's statements.",
            "mnist-natural and mnist-pgd are networks of Madry et al. 2018; of the sources mnist-pgd alone is defended, so that it "
            "has no part in the claim about undefended ones.",
        )
