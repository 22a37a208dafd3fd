"""Training recipes: the defences that the papers study. One file a recipe, one line here a name.

>>> from scotoma.training import RECIPES
>>> RECIPES["pgd"].__name__
'PGDTraining'
"""

from __future__ import annotations

from scotoma.utils.registry import Table

RECIPES = Table(
    "recipe",
    {
        "natural": "training.natural:Natural",
        "pgd": "training.madry:PGDTraining",
        "pgd-shifted": "training.transformed:ShiftedTraining",
        "pgd-composed": "training.transformed:ComposedTraining",
        "pgd-consistent": "training.consistent:ConsistentTraining",
        "igd": "training.igd:InputGradientDistillation",
        "n-fgsm": "training.single_step:NoiseFGSM",
        "fgsm": "training.single_step:FGSMTraining",
        "step-ll": "training.single_step:StepLLTraining",
        "rand-fgsm": "training.single_step:RandFGSMTraining",
        "fast": "training.single_step:FastTraining",
        "ensemble": "training.ensemble:EnsembleTraining",
        "abs": "training.synthesis:Synthesis",
        "generator": "training.generator:FlowMatching",
        "nearest-neighbour": "training.nearest_neighbour:NearestNeighbourTraining",
        "wong": "training.wong:Wong",
        "wrm": "training.wrm:WRM",
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
