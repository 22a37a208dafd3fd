"""How the audit attack adapts to a model: decided once a run and stored with its work units."""

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
    few = run.subset(run.indices[: 2 * IMAGES])

    def compute() -> pl.DataFrame:
        images, labels = few.test_images(few.indices)
        with few.seeded(), few.progress.bar("looking at the model", 1) as advance:
            correct = verified_logits(few.model, images).argmax(1) == labels
            rows = correct.nonzero().squeeze(1)
            random = Randomness(few.seed, few.indices.to(few.device)[rows], "plan")
            plan = make_plan(few.model, images[rows], labels[rows], few.claim.threat, random)
            advance(1)
        return pl.DataFrame({"plan": [json.dumps(plan.as_json())]})

    table = few.table("plan", {"seed": few.seed, "threat": str(few.claim.threat)}, compute)
    return Plan.from_json(json.loads(table["plan"][0]))
