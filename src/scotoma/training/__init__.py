"""Training recipes: the defences that the papers study. One line here a name.

>>> from scotoma.training import RECIPES
>>> RECIPES["pgd"].__name__
'PGDTraining'
"""

from __future__ import annotations

from scotoma.utils.registry import Table

RECIPES = Table(
    "recipe",
    {
        "natural": "training.plain:Natural",
        "pgd": "training.pgd:PGDTraining",
        "pgd-shifted": "training.transformed:ShiftedTraining",
        "pgd-composed": "training.transformed:ComposedTraining",
        "pgd-consistent": "training.consistent:ConsistentTraining",
        "interpolated": "training.interpolated:Interpolation",
        "igd": "training.pgd:InputGradientDistillation",
        "n-fgsm": "training.single_step:NoiseFGSM",
        "fgsm": "training.single_step:FGSMTraining",
        "step-ll": "training.single_step:StepLLTraining",
        "rand-fgsm": "training.single_step:RandFGSMTraining",
        "fast": "training.single_step:FastTraining",
        "ensemble": "training.single_step:EnsembleTraining",
        "abs": "training.plain:Synthesis",
        "generator": "training.plain:FlowMatching",
        "nearest-neighbour": "training.plain:NearestNeighbourTraining",
        "wong": "training.certified:Wong",
        "wrm": "training.certified:WRM",
    },
)

AUGMENTATIONS = Table(
    "augmentation",
    {
        "crop-flip": "training.augment:CropFlip",
        "cutout": "training.augment:Cutout",
        "invert": "training.augment:Invert",
        "scale-shift": "training.augment:RandomScaleShift",
        "varied": "training.augment:Varied",
    },
)


def __dir__() -> list[str]:
    return ["AUGMENTATIONS", "RECIPES"]
