"""The finding of the transfer probe."""

from __future__ import annotations

from typing import Any

import numpy as np

from scotoma.execution import records as rec
from scotoma.execution.run import Run
from scotoma.probes.base import OF_CORRECT, columns, correct, worst_rate
from scotoma.probes.robustness import verdict as robustness
from scotoma.probes.scored import Scored
from scotoma.probes.transfer.figures import choose_examples, figures, images
from scotoma.probes.transfer.matrix import ANY, MISLED, Cell, Matrix
from scotoma.results.finding import Finding, Row, Verdict
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


def describe(
    matrix: Matrix,
    question: str,
    holds: float,
    broken: float,
    run: Run,
    scored: Scored | None,
    ledger: Ledger,
) -> Finding:
    """Return the finding of a matrix, with the robust accuracy over all attacks of the audit.

    The verdict is on the whole test set if its images are `scored`.
    """
    on_all = None
    if scored is not None and matrix.held_out:
        index = run.indices.numpy()[matrix.correct]
        on_all = scored.outcomes(index, matrix.black[matrix.correct]).success()
    success, threat = on_all or matrix.success, matrix.claim.threat
    robust = rate(rec.beyond(ledger.rows()[threat.norm].to_numpy(), threat.eps))
    decision: Verdict = "not applicable"
    worst, examples = None, choose_examples(matrix)
    if matrix.held_out:
        decision = robustness.verdict(success, holds, broken)
        meaning = f"{OF_CORRECT} are fooled by examples made on other models"
        worst = worst_rate(matrix.success, meaning)
    return Finding(
        probe="transfer",
        question=question,
        verdict=decision,
        rule=rule(holds, broken),
        headline=_headline(matrix, robust),
        numbers=_numbers(matrix)
        | columns("robust_accuracy", robust)
        | ({} if on_all is None else columns("test_set_black_box_success", on_all)),
        tables={
            "sources": _sources(matrix),
            "by_source": [_by_source(matrix, name) for name in matrix.makers],
            "pairs": _pairs(matrix.cells),
            "matrix": [_row(cell) for cell in matrix.cells],
        },
        figures=figures(matrix, examples),
        notes=(
            *_notes(matrix),
            *([] if scored is None else [f"The verdict is on the whole test set. {scored.note}"]),
        ),
        images={"examples": images(run, matrix, examples)} if examples else {},
        worst=worst,
    )


def _headline(matrix: Matrix, robust: Rate) -> str:
    if not matrix.correct.any():
        return robustness.NOTHING_TO_ATTACK
    if not matrix.held_out:
        return (
            "Each source is the model itself or was used in its training, so its examples are not "
            "those of another model; name an independent one with the option sources."
        )
    if matrix.is_misled:
        believed = matrix.standing(matrix.white)
        return (
            f"{int(matrix.only.sum())} of {int(matrix.correct.sum())} correctly classified images "
            "are fooled by examples made on other models but not by the white-box attack "
            f"{matrix.white_attack}: gradients mislead that attack. Robust accuracy on all "
            f"audited images is at most {robust.value:.1%} over all attacks of this audit, not "
            f"{believed.value:.1%}; also try an attack without gradients, such as square."
        )
    models = sum(source.held_out for source in matrix.sources)
    best = max(matrix.held_out, key=_success)
    made_on = f"made on {models} other model{'' if models == 1 else 's'}"
    white = f"the attack on the model itself fools {matrix.share(matrix.white).value:.1%}"
    if not matrix.black.any():
        return f"No example {made_on} fools the model; {white} {OF_CORRECT}."
    return (
        f"Examples {made_on} fool {correct(matrix.success)}; the strongest attack, {best.attack} "
        f"on {best.source}, fools {best.success.value:.1%}, and {white}."
    )


def _numbers(matrix: Matrix) -> dict[str, Any]:
    extremes: Row = {}
    accuracy = success = rate(np.zeros(0, bool))
    if matrix.held_out:
        accuracy, success = matrix.standing(matrix.black), matrix.success
    if matrix.held_out and matrix.correct.any():
        for extreme, choose in (("strongest", max), ("weakest", min)):
            cell = choose(matrix.held_out, key=_success)
            extremes |= {
                f"{extreme}_source": cell.source,
                f"{extreme}_attack": cell.attack,
                **columns(f"{extreme}_success", cell.success),
            }
    return {
        **columns("white_box_accuracy", matrix.standing(matrix.white)),
        **columns("black_box_accuracy", accuracy),
        **columns("white_box_success", matrix.share(matrix.white)),
        **columns("black_box_success", success),
        **extremes,
        "transfer_only": int(matrix.only.sum()),
        **columns("transfer_only_share", matrix.share(matrix.only)),
        "misled": matrix.is_misled,
        "attacked": int(matrix.correct.sum()),
        "n": len(matrix.correct),
    }


def _success(cell: Cell) -> float:
    return cell.success.value


def _sources(matrix: Matrix) -> list[Row]:
    rows = []
    for source in matrix.sources:
        correct = next(cell.correct for cell in matrix.cells if cell.target == source.name)
        row = {
            "source": source.name,
            **columns("accuracy", rate(correct)),
            "n": len(correct),
            "held_out": source.held_out,
            "trained": source.trained,
            "sha256": source.model.sha256[:16],
        }
        rows.append(row)
    return rows


def _by_source(matrix: Matrix, name: str) -> Row:
    """Return how often the examples from one source fool the audited model, by attack."""
    cells = [cell for cell in matrix.audited_cells if cell.source == name]
    label = name
    if name == matrix.claim.model.name:
        label = f"{name} (itself)"
    elif not cells[0].held_out:
        label = f"{name} (used in training)"
    successes = {cell.attack: cell.success for cell in cells} | {
        ANY: matrix.share(matrix.union(cells))
    }
    row: Row = {"source": label, "held_out": cells[0].held_out, "n": cells[0].success.n}
    for attack, success in successes.items():
        row |= columns(attack, success)
    return row


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


def _notes(matrix: Matrix) -> tuple[str, ...]:
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
    if "options" not in matrix.claim.model.card:
        notes.append(
            "The audited model has no card that lists the models used in its training: every other "
            "model counts as held out."
        )
    for maker in matrix.makers.values():
        if len(maker.members) > 1:
            names = ", ".join(member.name for member in maker.members)
            notes.append(f"{maker.model.name}: the mean log-probability of {names} as one model.")
    for source, row in zip(matrix.sources, _sources(matrix), strict=True):
        if row["accuracy"] < POOR:
            notes.append(
                f"{source.name} classifies only {row['accuracy']:.1%} of the audited images "
                "correctly, so its examples are weak evidence. Name better models with the option "
                "sources."
            )
        if source.model.sha256 == matrix.claim.model.sha256:
            notes.append(
                f"{source.name} has the weights of the audited model: its examples are white-box."
            )
        notes += [f"{source.name}: {note}" for note in source.model.notes]
    return tuple(notes)
