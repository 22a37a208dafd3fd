"""Do adversarial examples made on other models fool the model?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Self

from scotoma.attacks import takes
from scotoma.attacks.core.losses import margin
from scotoma.attacks.iterative import IFGSM, MIM
from scotoma.attacks.single_step import FGSM, RandFGSM
from scotoma.claim import Claim
from scotoma.execution import records as rec
from scotoma.execution.run import Attack, Run
from scotoma.models.loading import ModelLike
from scotoma.probes.base import Conclusion, Probe, Settings, check_order, load_others, prepared
from scotoma.probes.robustness.verdict import BROKEN, HOLDS
from scotoma.probes.scored import Scored
from scotoma.probes.transfer import report
from scotoma.probes.transfer.matrix import Cell, Maker, Matrix
from scotoma.probes.transfer.sources import Source, source_facts, sources, together
from scotoma.results.finding import Finding
from scotoma.threat import Threat
from scotoma.utils.errors import InputError


def crafting(threat: Threat) -> dict[str, Attack]:
    """Return the attacks whose examples are transferred, by the names of their rows."""
    return {
        "fgsm": FGSM(threat),
        "rand-fgsm": RandFGSM(threat),
        "ifgsm": IFGSM(threat, until_fooled=False),
        "mim": MIM(threat, until_fooled=False),
        "mim-margin": MIM(threat, until_fooled=False, loss=margin),
    }


@dataclass(frozen=True)
class Transfer(Probe):
    """Show examples made on other models to the audited model and to each other.

    Each attack runs once on each source, and its examples are shown to every target. Black-box
    accuracy counts an image as fooled if any attack on any held-out source fools it.

    Args:
        sources: models on which the examples are made; none means reference models of the same
            data from the zoo or the cache, and small networks trained now.
        holds, broken: as for the robustness probe, of examples made on held-out models.

    Source:
        Tramer et al. 2018, section 4.2 and Table 4.

    >>> Transfer().question
    'Do adversarial examples made on other models fool the model?'
    """

    sources: Sequence[ModelLike] = ()
    holds: float = HOLDS
    broken: float = BROKEN

    thresholds = ("holds", "broken")
    question = "Do adversarial examples made on other models fool the model?"

    def __post_init__(self) -> None:
        check_order(self.holds, self.broken)

    def prepare(self, claim: Claim) -> Self:
        sources = load_others(self.sources, claim.data)
        for source in sources:
            if source.sha256 == claim.model.sha256:
                raise InputError(
                    f"sources: {source.name} is the audited model itself, so that its examples are "
                    "not transferred; name other models"
                )
        return replace(self, sources=sources)

    def provenance(self) -> dict[str, Any]:
        return source_facts(self.sources)

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        other_models = sources(claim, run, prepared(self.sources))
        if not other_models:
            decides = report.rule(self.holds, self.broken)
            why = (
                f"Data {claim.data.name} has no training split to train other models on; name "
                "models that you have with the option sources."
            )
            return lambda ledger: Finding("transfer", self.question, "not applicable", decides, why)
        # an attack that is itself a transfer does not see the model
        if takes(settings.attack, "sources"):
            settings = replace(settings, attack=Settings.attack)
        white_records = run.attack(settings.make_attack(claim.threat), what="the white-box attack")
        makers = self._makers(claim, other_models)
        attacks = crafting(claim.threat)
        cells = self._cells(run, other_models, makers, attacks)
        matrix = Matrix(claim, other_models, makers, cells, white_records, settings.attack, attacks)
        scored = Scored.of(run, white_records, settings.plan.clean)
        limits = self.holds, self.broken
        return partial(report.describe, matrix, self.question, *limits, run, scored)

    @staticmethod
    def _makers(claim: Claim, others: tuple[Source, ...]) -> dict[str, Maker]:
        models = [claim.model, *(source.model for source in others)]
        makers = {model.name: Maker(model, (model,)) for model in models}
        held_out = tuple(source.model for source in others if source.held_out)
        if len(held_out) > 1:
            joint = together(held_out, len(claim.data.classes))
            makers[joint.name] = Maker(joint, held_out)
        return makers

    @staticmethod
    def _cells(
        run: Run, others: Sequence[Source], makers: dict[str, Maker], attacks: dict[str, Attack]
    ) -> list[Cell]:
        claim, cells = run.claim, []
        targets = [claim.model, *(source.model for source in others)]
        cases = list(product(targets, makers.items(), attacks.items()))
        with run.progress.bar("transferred examples", len(cases)) as advance:
            for target, (name, maker), (label, attack) in cases:
                model = None if target is claim.model else target
                frame = run.transferred(attack, maker.model, model, f"  {label} on {name}")
                cell = Cell(
                    target.name,
                    name,
                    label,
                    maker.is_held_out(target),
                    rec.is_correct(frame),
                    rec.fallen(frame, claim.threat.eps, claim.threat.norm),
                    frame["adversarial_prediction"].to_numpy(),
                )
                cells.append(cell)
                advance(1)
        return cells
