"""Do examples made on other models beat it?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from scotoma.attacks import takes
from scotoma.attacks.core.losses import margin
from scotoma.attacks.iterative import IFGSM, MIM
from scotoma.attacks.single_step import FGSM, RandFGSM
from scotoma.claim import Claim, Threat
from scotoma.execution import records as rec
from scotoma.execution.run import Attack, Run
from scotoma.models.classifier import Classifier
from scotoma.probes import transfer_finding
from scotoma.probes.probe import Settings
from scotoma.probes.sources import Source, is_held_out, sources, together
from scotoma.results.finding import Finding
from scotoma.utils.stats import Rate, rate


def crafting(threat: Threat) -> dict[str, Attack]:
    """The attacks whose examples are transferred, by the names of their rows."""
    return {
        "fgsm": FGSM(threat),
        "rand-fgsm": RandFGSM(threat),
        "ifgsm": IFGSM(threat, until_fooled=False),
        "mim": MIM(threat, until_fooled=False),
        "mim-margin": MIM(threat, until_fooled=False, loss=margin),
    }


@dataclass(frozen=True)
class Maker:
    """A model that examples are made on: the audited one, a source, or several sources as one, its `members`."""

    model: Classifier
    members: tuple[Classifier, ...]

    def is_held_out(self, target: Classifier) -> bool:
        """Whether `target` is none of its members and saw none of them in its training."""
        return all(is_held_out(target, member) for member in self.members)


@dataclass(frozen=True)
class Cell:
    """What the examples of one attack on one source do to one target; arrays have one entry for each audited image."""

    target: str
    source: str
    attack: str
    held_out: bool
    right: np.ndarray
    """bool: the target classifies the image correctly"""
    fell: np.ndarray
    """bool: and the example, inside the threat, not"""
    answer: np.ndarray
    """what the target takes the example for"""

    @cached_property
    def success(self) -> Rate:
        return rate(self.fell[self.right])


@dataclass(frozen=True)
class Matrix:
    """Everything that was measured. `cells` begin with those of the audited model as target."""

    sources: tuple[Source, ...]
    makers: dict[str, Maker]
    cells: list[Cell]
    white: pl.DataFrame
    """records of the attack that sees the audited model"""
    white_attack: str
    """its name"""
    attacks: dict[str, Attack]
    """whose examples are transferred"""


class Transfer:
    """Examples made on other models, shown to the audited one and to each other (Tramer et al. 2018, section 4.2 and Table 4).

    Each attack meets each source once, and its examples are shown to every target. Black-box accuracy is the worst over held-out
    sources and attacks image by image, not the worst attack's mean.
    """

    question = "Do examples made on other models beat it?"

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Finding:
        found = sources(claim, run, settings.sources)
        if not found:
            return transfer_finding.no_sources(self.question, claim)
        # an attack that is itself a transfer does not see the model
        seeing = replace(settings, attack=Settings.attack) if takes(settings.attack, "sources") else settings
        white = run.attack(seeing.make_attack(claim.threat), what="the white-box attack")
        makers = self._makers(claim, found)
        attacks = crafting(claim.threat)
        cells = self._cells(claim, run, found, makers, attacks)
        matrix = Matrix(found, makers, cells, white, seeing.attack, attacks)
        return transfer_finding.describe(self.question, claim, run, matrix)

    @staticmethod
    def _makers(claim: Claim, found: tuple[Source, ...]) -> dict[str, Maker]:
        models = [claim.model, *(source.model for source in found)]
        makers = {model.name: Maker(model, (model,)) for model in models}
        held_out = tuple(source.model for source in found if source.held_out)
        if len(held_out) > 1:
            joint = together(held_out, len(claim.data.classes))
            makers[joint.name] = Maker(joint, held_out)
        return makers

    @staticmethod
    def _cells(
        claim: Claim, run: Run, found: tuple[Source, ...], makers: dict[str, Maker], attacks: dict[str, Attack]
    ) -> list[Cell]:
        cells, targets = [], [claim.model, *(source.model for source in found)]
        with run.progress.bar("transferred examples", len(targets) * len(makers) * len(attacks)) as advance:
            for target in targets:
                for name, maker in makers.items():
                    held_out = maker.is_held_out(target)
                    for attack, make in attacks.items():
                        what = f"  {attack} on {name}"
                        frame = run.transferred(make, maker.model, None if target is claim.model else target, what)
                        right = (frame["prediction"] == frame["label"]).to_numpy()
                        fell = rec.fallen(frame, claim.threat.eps, claim.threat.norm)
                        answer = frame["adversarial_prediction"].to_numpy()
                        cells.append(Cell(target.name, name, attack, held_out, right, fell, answer))
                        advance(1)
        return cells
