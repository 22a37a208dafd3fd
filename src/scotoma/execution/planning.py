"""How the audit attack adapts to a model: found out once a run, and kept with its work units."""

from __future__ import annotations

import json

import polars as pl

from scotoma.attacks.adaptive.look import IMAGES
from scotoma.attacks.adaptive.plan import Plan, make_plan
from scotoma.execution.records import verified_logits
from scotoma.execution.run import Run
from scotoma.utils.random import Randomness


def find_plan(run: Run) -> Plan:
    """Return the plan for a run's model (`attacks.adaptive`), from a look at its first images."""
    seen = run.subset(run.indices[: 2 * IMAGES])

    def compute() -> pl.DataFrame:
        images, labels = seen.test_images(seen.indices)
        with seen.seeded(), seen.progress.bar("looking at the model", 1) as advance:
            correct = verified_logits(seen.model, images).argmax(1) == labels
            rows = correct.nonzero().squeeze(1)
            random = Randomness(seen.seed, seen.indices.to(seen.device)[rows], "plan")
            made = make_plan(seen.model, images[rows], labels[rows], seen.claim.threat, random)
            advance(1)
        return pl.DataFrame({"plan": [json.dumps(made.as_json())]})

    table = seen.table("plan", {"seed": seen.seed, "threat": str(seen.claim.threat)}, compute)
    return Plan.from_json(json.loads(table["plan"][0]))
