"""The finding of the transfer probe."""

from __future__ import annotations

from typing import Any

import numpy as np

from scotoma.claim import Claim
from scotoma.execution import records as rec
from scotoma.execution.run import Run
from scotoma.probes.base import OF_CORRECT, columns, correct, worst_rate
from scotoma.probes.robustness import verdict as robustness
from scotoma.probes.scored import Scored
from scotoma.probes.transfer.analysis import ANY, MISLED, TransferAnalysis
from scotoma.probes.transfer.figures import chosen, figures, images
from scotoma.probes.transfer.matrix import Cell, Matrix
from scotoma.results.finding import Finding, Row
from scotoma.results.ledger import Ledger
from scotoma.utils.stats import Rate, rate

POOR = 0.5


def rule(holds: float, broken: float) -> str:
    """Return how the verdict is found."""
    return (
        "success is the share of correctly classified images that any example from a held-out "
        f"model fools: {robustness.rule(holds, broken)}; gradients mislead the white-box attack if "
        "the 95% interval of the share of images that only transferred examples fool lies above "
        f"{MISLED:.0%}; not applicable without a held-out model. The verdict is about attackers "
        "without the model; against others this probe never shows robustness"
    )


def no_sources(question: str, claim: Claim, decides: str) -> Finding:
    """Return the finding for an audit without other models; `decides` is the rule."""
    why = (
        f"Data {claim.data.name} has no training split to train other models on; name models that "
        "you have with the option sources."
    )
    return Finding("transfer", question, "not applicable", decides, why)


def describe(
    question: str,
    claim: Claim,
    run: Run,
    matrix: Matrix,
    holds: float,
    broken: float,
    scored: Scored | None,
    ledger: Ledger,
) -> Finding:
    """Return the finding of a matrix, with the robust accuracy over all attacks of the audit.

    `holds` and `broken` are the thresholds of the verdict, which is on the whole test set if its
    images are `scored`.
    """
    read, rows = TransferAnalysis(claim, matrix), ledger.rows()
    on_all = None
    if scored is not None and read.held_out:
        index = run.indices.numpy()[read.correct]
        on_all = scored.outcomes(index, read.black[read.correct]).success()
    robust = rate(rec.beyond(rows[claim.threat.norm].to_numpy(), claim.threat.eps))
    shown = chosen(read)
    return Finding(
        probe="transfer",
        question=question,
        verdict=robustness.verdict(on_all or read.success, holds, broken)
        if read.held_out
        else "not applicable",
        rule=rule(holds, broken),
        headline=_headline(read, robust),
        numbers=_numbers(read)
        | columns("robust_accuracy", robust)
        | ({} if on_all is None else columns("test_set_black_box_success", on_all)),
        tables={
            "sources": _sources(read),
            "by_source": [_by_source(read, name) for name in matrix.makers],
            "pairs": _pairs(matrix.cells),
            "matrix": [_row(cell) for cell in matrix.cells],
        },
        figures=figures(read, shown),
        notes=(
            *_notes(read),
            *([] if scored is None else [f"The verdict is on the whole test set. {scored.note}"]),
        ),
        images={"examples": images(run, claim, matrix, shown)} if shown else {},
        worst=worst_rate(read.success, f"{OF_CORRECT} are fooled by examples made on other models")
        if read.held_out
        else None,
    )


def _headline(read: TransferAnalysis, robust: Rate) -> str:
    if not read.correct.any():
        return robustness.NOTHING_TO_ATTACK
    if not read.held_out:
        return (
            "Each source is the model itself or was used in its training, so its examples are not "
            "those of another model; name an independent one with the option sources."
        )
    if read.is_misled:
        believed = read.standing(read.white)
        return (
            f"{int(read.only.sum())} of {int(read.correct.sum())} correctly classified images are "
            "fooled by examples made on other models but not by the white-box attack "
            f"{read.matrix.white_attack}: gradients mislead that attack. Robust accuracy on all "
            f"audited images is at most {robust.value:.1%} over all attacks of this audit, not "
            f"{believed.value:.1%}; also try an attack without gradients, such as square."
        )
    models = sum(source.held_out for source in read.matrix.sources)
    best = read.strongest
    made_on = f"made on {models} other model{'' if models == 1 else 's'}"
    white = f"the attack on the model itself fools {read.share(read.white).value:.1%}"
    if not read.black.any():
        return f"No example {made_on} fools the model; {white} {OF_CORRECT}."
    return (
        f"Examples {made_on} fool {correct(read.success)}; the strongest attack, {best.attack} on "
        f"{best.source}, fools {best.success.value:.1%}, and {white}."
    )


def _numbers(read: TransferAnalysis) -> dict[str, Any]:
    extremes: Row = {}
    if read.held_out and read.correct.any():
        for word, cell in (("strongest", read.strongest), ("weakest", read.weakest)):
            extremes |= {
                f"{word}_source": cell.source,
                f"{word}_attack": cell.attack,
                **columns(f"{word}_success", cell.success),
            }
    black = read.black if read.held_out else None
    nothing = rate(np.zeros(0, bool))
    return {
        **columns("white_box_accuracy", read.standing(read.white)),
        **columns("black_box_accuracy", nothing if black is None else read.standing(black)),
        **columns("white_box_success", read.share(read.white)),
        **columns("black_box_success", nothing if black is None else read.share(black)),
        **extremes,
        "transfer_only": int(read.only.sum()),
        **columns("transfer_only_share", read.share(read.only)),
        "misled": read.is_misled,
        "attacked": int(read.correct.sum()),
        "n": len(read.correct),
    }


def _sources(read: TransferAnalysis) -> list[Row]:
    rows = []
    for source in read.matrix.sources:
        correct = next(cell.correct for cell in read.matrix.cells if cell.target == source.name)
        accuracy = columns("accuracy", rate(correct))
        row = {
            "source": source.name,
            **accuracy,
            "n": len(correct),
            "held_out": source.held_out,
            "trained": source.trained,
        }
        rows.append(row | {"sha256": source.model.sha256[:16]})
    return rows


def _by_source(read: TransferAnalysis, name: str) -> Row:
    """Return how often the examples from one source fool the audited model, by attack."""
    cells = [cell for cell in read.own if cell.source == name]
    seen = (
        "itself"
        if name == read.claim.model.name
        else ""
        if cells[0].held_out
        else "used in training"
    )
    successes = {cell.attack: cell.success for cell in cells} | {ANY: read.share(read.union(cells))}
    row: Row = {
        "source": f"{name} ({seen})" if seen else name,
        "held_out": cells[0].held_out,
        "n": cells[0].success.n,
    }
    return row | {
        key: value
        for attack, success in successes.items()
        for key, value in columns(attack, success).items()
    }


def _row(cell: Cell) -> Row:
    return {
        "target": cell.target,
        "source": cell.source,
        "attack": cell.attack,
        **columns("success", cell.success),
        "n": cell.success.n,
        "held_out": cell.held_out,
    }


def _pairs(cells: list[Cell]) -> list[Row]:
    """The strongest attack of each source on each target."""
    best: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        key = cell.target, cell.source
        if key not in best or cell.success.value > best[key].success.value:
            best[key] = cell
    return [_row(cell) for cell in best.values()]


def _notes(read: TransferAnalysis) -> tuple[str, ...]:
    claim, matrix = read.claim, read.matrix
    notes = [
        "Each attack ran once on each source, on all audited images, and its examples were shown "
        "to every target. fgsm takes one step, rand-fgsm one step after a random step of half of "
        "eps, ifgsm and mim (with momentum) ten, and mim-margin ten on the logit margin. Attacks "
        "take all steps even after the source is fooled, because an image far beyond its boundary "
        "is likelier to fool another model.",
        f"White-box attack: {matrix.white_attack}, which uses the audited model. Accuracies are "
        "shares of all audited images. White-box and black-box numbers are those of that attack "
        "and of the examples from held-out models; the robust accuracy is over all attacks of the "
        "audit.",
    ]
    if "options" not in claim.model.card:
        notes.append(
            "The audited model has no card that lists the models used in its training: every other "
            "model counts as held out."
        )
    for maker in matrix.makers.values():
        if len(maker.members) > 1:
            names = ", ".join(member.name for member in maker.members)
            notes.append(f"{maker.model.name}: the mean log-probability of {names} as one model.")
    for source, row in zip(matrix.sources, _sources(read), strict=True):
        if row["accuracy"] < POOR:
            notes.append(
                f"{source.name} classifies only {row['accuracy']:.1%} of the audited images "
                "correctly, so its examples are weak evidence. Name better models with the option "
                "sources."
            )
        if source.model.sha256 == claim.model.sha256:
            notes.append(
                f"{source.name} has the weights of the audited model: its examples are white-box."
            )
        notes += [f"{source.name}: {note}" for note in source.model.notes]
    return tuple(notes)
