"""What the paper claims of natural, single-step and ensemble training, as comparisons."""

from __future__ import annotations

from collections.abc import Iterator

from scotoma.papers.tramer2018.checks import Check, more_often, more_than
from scotoma.papers.tramer2018.errors import Errors
from scotoma.papers.tramer2018.suites import Suite
from scotoma.reference import recipe_of

MOST = 0.5
"""A model falls to an attack that more than this share of images does not survive."""


def random_step(suite: Suite, recipe: str, stepped: Errors) -> Iterator[Check]:
    """After training on a single step, the same step does more from a random point nearby."""
    yield more_often(
        f"{recipe} training: {suite.random} finds more errors than {suite.single}",
        stepped.model,
        (suite.random, stepped.own[suite.random]),
        (suite.single, stepped.own[suite.single]),
    )


def transferred_step(suite: Suite, recipe: str, stepped: Errors) -> Iterator[Check]:
    """After training on a single step, that of another, undefended model does more than the model's own."""
    for source in stepped.held_out:
        if recipe_of(source).recipe == "natural":
            yield more_often(
                f"{recipe} training: {suite.single} of an undefended model finds more errors than the model's own",
                stepped.model,
                (f"{suite.single} of the source", stepped.transferred[source, suite.single]),
                (suite.single, stepped.own[suite.single]),
                source,
            )


def black_box(recipe: str, stepped: Errors, ensemble: Errors) -> Iterator[Check]:
    """Ensemble training lowers the black-box error, whatever the held-out source."""
    for source in ensemble.held_out:
        yield more_often(
            f"ensemble training: fewer black-box errors than after {recipe} training",
            ensemble.model,
            (stepped.model, stepped.black_box([source])),
            (ensemble.model, ensemble.black_box([source])),
            source,
        )


def white_box(suite: Suite, ensemble: Errors) -> Iterator[Check]:
    """Ensemble training does not withstand iterated attacks on the model itself."""
    yield more_than(
        f"ensemble training: iterated white-box attacks break more than {MOST:.0%} of images",
        ensemble.model,
        (" or ".join(suite.iterated), ensemble.white_box(suite.iterated)),
        MOST,
    )


def of_network(suite: Suite, recipe: str, stepped: Errors, ensembles: list[Errors]) -> list[Check]:
    """All of them for one network, `stepped` being trained by `recipe` on the suite's single step."""
    made = [*random_step(suite, recipe, stepped), *transferred_step(suite, recipe, stepped)]
    made += [check for ensemble in ensembles for check in black_box(recipe, stepped, ensemble)]
    return made + [check for ensemble in ensembles for check in white_box(suite, ensemble)]
