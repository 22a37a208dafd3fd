"""The sweeps of three data sets."""

from __future__ import annotations

from scotoma.papers.duan2023.measured import Found
from scotoma.papers.duan2023.study import Study


class Digits(Study):
    """The embedded digits of 8x8 pixels: every claim in minutes, on images far smaller than the paper's."""

    title = "Inequality of attribution on the embedded digits, by size of L-inf training"
    source = "Duan et al. 2023, Tables 1 and 2 and Figures 2 to 4, on other data"
    sweep = {
        "natural": "digits-natural",
        "0.1": "digits-pgd-01",
        "0.2": "digits-pgd-02",
        "0.3": "digits-pgd-03",
    }


class Mnist(Study):
    """MNIST."""

    title = "Inequality of attribution on MNIST, by size of L-inf training"
    source = "Duan et al. 2023, Tables 1 and 2 and Figures 2 to 4, on other data"
    sweep = {
        "natural": "mnist-small-natural",
        "0.1": "mnist-small-pgd-01",
        "0.2": "mnist-small-pgd-02",
        "0.3": "mnist-small-pgd-03",
    }


class Cifar(Study):
    """CIFAR-10, the smaller of the paper's data sets."""

    title = "Inequality of attribution on CIFAR-10, by size of L-inf training"
    source = "Duan et al. 2023, Table 1 (CIFAR-10, ResNet-18), Table 2 and Figures 2 to 4"
    sweep = {
        "natural": "cifar-natural",
        "1/255": "cifar-pgd-1",
        "2/255": "cifar-pgd-2",
        "4/255": "cifar-pgd-4",
        "8/255": "cifar-robust",
    }
    published = ("CIFAR-10", "ResNet-18")

    def _notes(self, found: Found) -> tuple[str, ...]:
        return (
            "Published Gini coefficients are those of a ResNet-18, ours of a smaller residual network; they stand beside the "
            "convention that they fit: absolute values for global ones, sums by region above 0 for regional ones, which is our "
            "inference. The paper's errors are of ResNet-50 on ImageNet and stand in a table of their own.",
        )
