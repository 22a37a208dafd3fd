"""The finding of the probe of generated images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch

from scotoma.data.dataset import class_name
from scotoma.execution import records as rec
from scotoma.probes.base import OF_CORRECT, columns, correct, percent, sized, worst_rate
from scotoma.probes.blindspots.transformed import one_a_class
from scotoma.probes.generated.analysis import Controls, Made, Measured
from scotoma.probes.robustness.verdict import BROKEN, NOTHING_TO_ATTACK
from scotoma.results.finding import Bars, Boxes, Finding, Gallery, Row, Verdict
from scotoma.results.judging import JUDGED
from scotoma.results.ledger import Ledger
from scotoma.threat import Threat
from scotoma.utils.stats import Estimate, Rate, finite, rate
from scotoma.utils.text import counted
from scotoma.validity.oracle import LEVEL, Calibration

PROBE = "generated"
SHOWN = 6
FEWEST = 20
"""Valid images below which there is nothing to compare."""
NAMED = 5
"""Most classes that a note names."""
EXPECTED = 2
"""Images for each class from which every class should have some."""
VALID, SEARCHES, REJECTED, CONTROLS = 40, 20, 10, 15
"""Most images of each kind that people judge, and controls with right and with wrong labels."""
TEST, MADE, SEARCHED = "test set", "generated, valid", "valid, or found near it"


def rule(broken: float) -> str:
    """Return how `verdict` decides."""
    return (
        "Success on valid generated images is compared with that on the test set, at eps. Broken: "
        "the 95% interval of the difference lies above 0, and the interval of the success rate on "
        f"generated images above {broken:.0%}: the claim does not reach images of its own classes. "
        "Weak: the interval of the difference lies above 0. Undecided: the interval reaches above "
        f"{100 * broken:.0f} points. Otherwise it holds. Not applicable: "
        "the claim is already broken on the test set itself, or the oracle rejects more than half "
        f"of the generated images, or accepts fewer than {FEWEST}. Copies of an image count once. "
        "The latent search does not count, since it picks its images."
    )


def verdict(success: Rate, base: Rate, gap: Estimate, broken: float = BROKEN) -> Verdict:
    """Return the verdict of `rule`; `gap` is the difference of the rates.

    >>> from scotoma.utils.stats import difference
    >>> success, base = rate(np.ones(50, bool)), rate(np.zeros(50, bool))
    >>> verdict(success, base, difference(success, base))
    'broken'
    """
    if not base.n or not success.n or base.low > broken:
        return "not applicable"
    if not gap.low > 0:
        return "undecided" if gap.high > broken else "holds"
    return "broken" if success.low > broken else "weak"


def rejected(
    made: Made,
    question: str,
    broken: float,
    generator: str,
    calibration: Calibration,
    classes: Sequence[str],
    ledger: Ledger,
) -> Finding:
    """Return the finding for a generator whose images are mostly not valid."""
    galleries = _rejects(made, classes)
    return Finding(
        probe=PROBE,
        question=question,
        verdict="not applicable",
        rule=rule(broken),
        headline=_too_few(made, generator),
        numbers={"n": made.valid.n, "copies": made.copies, **columns("valid", made.valid)},
        figures=tuple(gallery for gallery, _ in galleries),
        notes=(*_copies(made), _why(made), str(calibration)),
        images={gallery.images: shown for gallery, shown in galleries},
    )


def _too_few(made: Made, generator: str) -> str:
    """Return how many images are valid, how many are needed, and what to do."""
    n, valid = made.valid.n, int(made.validity.valid.sum())
    images = counted(n, "different image" if made.copies else "image")
    accepted = f"The oracle of validity accepts {valid} of {images} by {generator}"
    if 2 * valid < n:
        return (
            f"{accepted} ({percent(made.valid)}); at least half have to be valid. Use a generator "
            "whose images are of their classes and look like the data."
        )
    if made.copies and n + made.copies >= FEWEST:
        return (
            f"{accepted}; at least {FEWEST} valid ones are needed. The other "
            f"{counted(made.copies, 'image')} repeat these: use a generator that makes different "
            "images."
        )
    return (
        f"{accepted}; at least {FEWEST} valid ones are needed. Audit more images: as many are "
        "generated as are audited, unless the probe's option images says otherwise."
    )


def _copies(made: Made) -> tuple[str, ...]:
    """Return the note on copies, if there are any."""
    if not made.copies:
        return ()
    total, repeat = made.valid.n + made.copies, "repeats" if made.copies == 1 else "repeat"
    return (
        f"{made.copies:,} of {total:,} generated images {repeat} another one, pixel by pixel. "
        f"Each counts once, so n is {made.valid.n:,}.",
    )


def describe(
    measured: Measured, question: str, broken: float, attack: str, ledger: Ledger
) -> Finding:
    """Return the finding, with success on the test set from the ledger."""
    threat, made, searched = measured.threat, measured.made, measured.searched
    tests = ledger.rows()
    base = rate(rec.successes(tests, threat.eps, threat.norm))
    gap = measured.gap(base)
    groups = [(TEST, tests), (MADE, made.rows)]
    galleries = [*_broken(measured), *_searches(measured), *_rejects(made, measured.classes)]
    shown_rows, shown_images = _for_people(measured)
    return Finding(
        probe=PROBE,
        question=question,
        verdict=verdict(measured.success, base, gap, broken),
        rule=rule(broken),
        headline=_headline(measured, base),
        numbers={
            "n": made.valid.n,
            "copies": made.copies,
            **columns("valid", made.valid),
            **columns("accuracy", made.accuracy),
            **columns("success_eps", measured.success),
            **columns("base_success_eps", base),
            **columns("difference", gap),
            **({} if searched is None else columns("search_valid", searched.valid)),
            **_optional("search_misclassified", measured.unrestricted),
            **_optional("search_success_eps", measured.with_search),
            "contrast": finite(measured.contrast),
            **columns("oracle_false_rejections", measured.calibration.rejected),
            "generator": measured.generator,
        },
        tables={
            "sets": [*(_row(name, rows, threat) for name, rows in groups), *_search_row(measured)],
            "distances": _distances(measured),
            "classes": _classes(made, threat),
            JUDGED: shown_rows,
        },
        figures=(
            Bars(
                "sets",
                "The model's accuracy, and the attack success rate at eps, on the test set and on "
                "valid generated images, with 95% intervals. Success rates are over the images "
                "that are classified correctly. The last group is the worse of each valid image "
                "and of what the latent search finds near it: picked, so not typical.",
                table="sets",
                label="images",
                series={"accuracy": "accuracy", "success at eps": "success_eps"},
                y_label="rate",
            ),
            Boxes(
                "distances",
                "Distance of each image to the training data, in the features of a network that is "
                "not the audited one: the mean over the five nearest training images.",
                table="distances",
                label="images",
                value="distance",
                y_label="distance to the training data",
            ),
            *(gallery for gallery, _ in galleries),
        ),
        notes=_notes(attack, measured),
        images={**{gallery.images: shown for gallery, shown in galleries}, JUDGED: shown_images},
        worst=worst_rate(measured.success, f"{OF_CORRECT} are fooled among valid generated ones"),
    )


def _optional(name: str, value: Rate | None) -> dict[str, Any]:
    return {} if value is None else columns(name, value)


def _headline(measured: Measured, base: Rate) -> str:
    success = measured.success
    if not base.n or not success.n:
        return NOTHING_TO_ATTACK
    made, gap = measured.made, measured.gap(base)
    different = "different " if made.copies else ""
    text = (
        f"{made.valid.value:.1%} of {counted(made.valid.n, f'{different}image')} by "
        f"{measured.generator} are valid. The "
        f"model's accuracy on these is {made.accuracy.value:.1%}, and attacks fool "
        f"{correct(success)}, compared with {base.value:.1%} on the test set (difference "
        f"{100 * gap.value:+.1f} points, {100 * gap.low:+.1f} to {100 * gap.high:+.1f})."
    )
    if measured.unrestricted and measured.unrestricted.n:
        text += (
            f" Near {measured.unrestricted.value:.1%} of the valid images a search finds a valid "
            "image that the model misclassifies without any perturbation."
        )
    return text


def _row(name: str, rows: pl.DataFrame, threat: Threat) -> Row:
    success = rate(rec.successes(rows, threat.eps, threat.norm))
    return {
        "images": name,
        "n": len(rows),
        **columns("accuracy", rate(rec.is_correct(rows))),
        "attacked": success.n,
        **columns("success_eps", success),
    }


def _search_row(measured: Measured) -> list[Row]:
    """Return what the search adds: it counts over the starts that are classified correctly."""
    wrong, broken = measured.unrestricted, measured.with_search
    if wrong is None or broken is None or not wrong.n:
        return []
    right = Rate(1 - wrong.value, 1 - wrong.high, 1 - wrong.low, wrong.n)
    row = {"images": SEARCHED, "n": wrong.n, "attacked": broken.n}
    return [row | columns("accuracy", right) | columns("success_eps", broken)]


def _classes(made: Made, threat: Threat) -> list[Row]:
    """Return valid share and success of each class."""
    table = []
    for label in made.labels.unique().tolist():
        valid = rate(made.validity.valid[made.labels == label].numpy())
        success = rate(rec.successes(made.rows.filter(label=label), threat.eps, threat.norm))
        row = {"class": label, "n": valid.n}
        table.append(row | columns("valid", valid) | columns("success_eps", success))
    return table


def _distances(measured: Measured) -> list[Row]:
    kinds = [(TEST, measured.real.distance), ("generated", measured.made.validity.distance)]
    if measured.searched:
        kinds.append(("after latent search", measured.searched.validity.distance))
    return [
        {"images": name, "distance": finite(value)}
        for name, each in kinds
        for value in each.tolist()
    ]


def _why(made: Made) -> str:
    said = made.validity
    unconfirmed, far = (~said.confirmed).sum().item(), (said.realism <= LEVEL).sum().item()
    return (
        f"Rejected: {(~said.valid).sum().item()} of {counted(len(said.valid), 'generated image')}. "
        f"The majority of the judges does not confirm the class of {unconfirmed}, and {far} lie "
        f"farther from the training data than {1 - LEVEL:.0%} of real test images."
    )


def _notes(attack: str, measured: Measured) -> tuple[str, ...]:
    notes = [
        *_copies(measured.made),
        _why(measured.made),
        str(measured.calibration),
        f"Audit attack: {attack}; on generated images it leaves an image once its perturbation is "
        "below eps. The two sets have different images, so the interval of the difference is that "
        "of two independent samples. Generated images are no test images: they count in no other "
        "finding.",
        f"The contrast of a generated image (standard deviation of its pixels) is "
        f"{measured.contrast:.2f} times that of a test image.",
    ]
    missing = sorted(set(range(len(measured.classes))) - set(measured.made.labels.tolist()))
    if missing and len(measured.made.labels) >= EXPECTED * len(measured.classes):
        names = ", ".join(measured.classes[number] for number in missing[:NAMED])
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        notes.append(
            f"No image was made of {names}{more}: the rate is that of the other classes, while the "
            "test set has all."
        )
    searched = measured.searched
    if searched is not None and measured.with_search is not None:
        notes.append(
            "Latent search: descent on the model's margin in the generator's latents, from each "
            "valid image and kept near it; ends are attacked by one short search, if their start "
            f"withstands the audit attack. Of {searched.valid.n} ends the oracle accepts "
            f"{searched.valid.value:.1%}; the others do not count. A start is broken, before or "
            f"after the search, on {correct(measured.with_search)}; this is a search for the worst "
            "image, so it is no success rate of typical ones."
        )
    return tuple(notes)


def _for_people(measured: Measured) -> tuple[list[Row], np.ndarray]:
    """Return the images that `scotoma judge` shows, with what each is to show."""
    made, found, controls = measured.made, measured.searched, measured.controls
    parts: list[tuple[str, Made | Controls, int]] = []
    valid = made.validity.valid
    for kind, kept, most in (("valid", valid, VALID), ("rejected", ~valid, REJECTED)):
        parts += [(kind, made, row) for row in kept.nonzero().squeeze(1).tolist()[:most]]
    if found is not None:
        ends = pl.DataFrame({"index": range(len(found.labels)), "label": found.labels.numpy()})
        chosen = one_a_class(ends.filter(found.validity.valid.numpy()), SEARCHES)["index"]
        parts += [("searched", found, row) for row in chosen]
    for row, wrong in enumerate(controls.wrong.tolist()):
        parts.append(("wrong label" if wrong else "test", controls, row))
    table = [
        {
            "kind": kind,
            "label": int(of.labels[row]),
            "class": measured.classes[int(of.labels[row])],
            "valid": bool(of.validity.valid[row]),
        }
        for kind, of, row in parts
    ]
    return table, torch.stack([of.images[row] for _, of, row in parts]).numpy()


def _broken(measured: Measured) -> list[tuple[Gallery, np.ndarray]]:
    """Return a gallery of valid images and the adversarial ones that an attack found near them."""
    made, threat = measured.made, measured.threat
    rows = one_a_class(made.rows.filter(rec.fallen(made.rows, threat.eps, threat.norm)))
    if not len(rows) or made.run is None:
        return []
    attacks = rows[f"{threat.norm}_attack"].to_list()
    before, _, after = made.run.examples(attacks, None, rows["index"].to_list())
    named = partial(class_name, measured.classes)
    captions = [
        [
            named(row["label"]),
            f"classified as {named(row[f'{threat.norm}_prediction'])}, {sized(row, threat.norm)}",
        ]
        for row in rows.iter_rows(named=True)
    ]
    caption = "Valid generated images that the model classifies correctly, and adversarial ones."
    columns = ["generated", "adversarial"]
    gallery = Gallery("fooled", caption, "fooled", columns, captions, adversarial=True)
    return [(gallery, np.stack([before, after], 1))]


def _searches(measured: Measured) -> list[tuple[Gallery, np.ndarray]]:
    """Return a gallery of starts and ends of latent searches that the model gets wrong."""
    found = measured.searched
    if found is None or found.starts is None:
        return []
    wrong = one_a_class(found.rows.filter(pl.col("prediction") != pl.col("label")))
    if not len(wrong):
        return []
    chosen = wrong["index"].to_list()
    before, after = measured.made.images[found.starts[chosen]], found.images[chosen]
    named = partial(class_name, measured.classes)
    captions = [
        [named(label), f"valid, classified as {named(prediction)}"]
        for label, prediction in wrong.select("label", "prediction").iter_rows()
    ]
    caption = (
        "Valid generated images, and valid images near them in the generator's latents that the "
        "model misclassifies: no perturbation is added."
    )
    gallery = Gallery("searched", caption, "searched", ["start", "found"], captions)
    return [(gallery, torch.stack([before, after], 1).numpy())]


def _rejects(made: Made, classes: Sequence[str]) -> list[tuple[Gallery, np.ndarray]]:
    """Return a gallery of the first generated images that the oracle rejects."""
    said = made.validity
    rows = (~said.valid).nonzero().squeeze(1).tolist()[:SHOWN]
    if not rows:
        return []
    named = partial(class_name, classes)
    captions = [
        [
            f"for {named(int(made.labels[row]))}; judged "
            + ", ".join(map(named, said.predictions[row].tolist()))
            + ("" if said.realism[row] > LEVEL else "; far from the training data")
        ]
        for row in rows
    ]
    caption = (
        f"The first of {int((~said.valid).sum())} generated images that the oracle rejects, with "
        "the class that each is to show and the classes that the judges see."
    )
    gallery = Gallery("rejected", caption, "rejected", ["rejected"], captions)
    return [(gallery, made.images[rows][:, None].numpy())]
