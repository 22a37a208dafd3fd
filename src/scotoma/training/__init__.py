"""Training recipes: the defences that the papers study. One file a recipe, one line here a name."""

from __future__ import annotations

from scotoma.table import Table

RECIPES = Table(
    "recipe",
    {
        "natural": "training.natural:Natural",
        "pgd": "training.madry:PGDTraining",
    },
)
