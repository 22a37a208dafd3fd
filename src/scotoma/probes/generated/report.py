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
from scotoma.probes.generated.analysis import Controls, GeneratedSet, Results
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
    sample: GeneratedSet,
    question: str,
    broken: float,
    generator: str,
    calibration: Calibration,
    classes: Sequence[str],
    ledger: Ledger,
) -> Finding:
    """Return the finding for a generator whose images are mostly not valid."""
    galleries = _rejects(sample, classes)
    return Finding(
        probe=PROBE,
        question=question,
        verdict="not applicable",
        rule=rule(broken),
        headline=_too_few(sample, generator),
        numbers={"n": sample.valid.n, "copies": sample.copies, **columns("valid", sample.valid)},
        figures=tuple(gallery for gallery, _ in galleries),
        notes=(*_copies(sample), _why(sample), str(calibration)),
        images={gallery.images: shown for gallery, shown in galleries},
    )


def _too_few(sample: GeneratedSet, generator: str) -> str:
    """Return how many images are valid, how many are needed, and what to do."""
    n, valid = sample.valid.n, int(sample.validity.valid.sum())
    images = counted(n, "different image" if sample.copies else "image")
    accepted = f"The oracle of validity accepts {valid} of {images} by {generator}"
    if 2 * valid < n:
        return (
            f"{accepted} ({percent(sample.valid)}); at least half have to be valid. Use a "
            "generator whose images are of their classes and look like the data."
        )
    if sample.copies and n + sample.copies >= FEWEST:
        return (
            f"{accepted}; at least {FEWEST} valid ones are needed. The other "
            f"{counted(sample.copies, 'image')} repeat these: use a generator that makes different "
            "images."
        )
    return (
        f"{accepted}; at least {FEWEST} valid ones are needed. Audit more images: as many are "
        "generated as are audited, unless the probe's option images says otherwise."
    )


def _copies(sample: GeneratedSet) -> tuple[str, ...]:
    """Return the note on copies, if there are any."""
    if not sample.copies:
        return ()
    total, repeat = sample.valid.n + sample.copies, "repeats" if sample.copies == 1 else "repeat"
    return (
        f"{sample.copies:,} of {total:,} generated images {repeat} another one, pixel by pixel. "
        f"Each counts once, so n is {sample.valid.n:,}.",
    )


def describe(
    results: Results, question: str, broken: float, attack: str, ledger: Ledger
) -> Finding:
    """Return the finding, with success on the test set from the ledger."""
    threat, sample, searched = results.threat, results.generated, results.searched
    test_rows = ledger.rows()
    base = rate(rec.successes(test_rows, threat.eps, threat.norm))
    gap = results.gap(base)
    groups = [(TEST, test_rows), (MADE, sample.rows)]
    galleries = [*_fooled(results), *_searches(results), *_rejects(sample, results.classes)]
    shown_rows, shown_images = _for_people(results)
    return Finding(
        probe=PROBE,
        question=question,
        verdict=verdict(results.success, base, gap, broken),
        rule=rule(broken),
        headline=_headline(results, base),
        numbers={
            "n": sample.valid.n,
            "copies": sample.copies,
            **columns("valid", sample.valid),
            **columns("accuracy", sample.accuracy),
            **columns("success_eps", results.success),
            **columns("base_success_eps", base),
            **columns("difference", gap),
            **({} if searched is None else columns("search_valid", searched.valid)),
            **_optional("search_misclassified", results.unrestricted),
            **_optional("search_success_eps", results.with_search),
            "contrast": finite(results.contrast),
            **columns("oracle_false_rejections", results.calibration.rejected),
            "generator": results.generator,
        },
        tables={
            "sets": [*(_row(name, rows, threat) for name, rows in groups), *_search_row(results)],
            "distances": _distances(results),
            "classes": _classes(sample, threat),
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
        notes=_notes(attack, results),
        images={**{gallery.images: shown for gallery, shown in galleries}, JUDGED: shown_images},
        worst=worst_rate(results.success, f"{OF_CORRECT} are fooled among valid generated ones"),
    )


def _optional(name: str, value: Rate | None) -> dict[str, Any]:
    return {} if value is None else columns(name, value)


def _headline(results: Results, base: Rate) -> str:
    success = results.success
    if not base.n or not success.n:
        return NOTHING_TO_ATTACK
    sample, gap = results.generated, results.gap(base)
    different = "different " if sample.copies else ""
    text = (
        f"{sample.valid.value:.1%} of {counted(sample.valid.n, f'{different}image')} by "
        f"{results.generator} are valid. The "
        f"model's accuracy on these is {sample.accuracy.value:.1%}, and attacks fool "
        f"{correct(success)}, compared with {base.value:.1%} on the test set (difference "
        f"{100 * gap.value:+.1f} points, {100 * gap.low:+.1f} to {100 * gap.high:+.1f})."
    )
    if results.unrestricted and results.unrestricted.n:
        text += (
            f" Near {results.unrestricted.value:.1%} of the valid images a search finds a valid "
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


def _search_row(results: Results) -> list[Row]:
    """Return what the search adds: it counts over the starts that are classified correctly."""
    wrong, broken = results.unrestricted, results.with_search
    if wrong is None or broken is None or not wrong.n:
        return []
    accuracy = Rate(1 - wrong.value, 1 - wrong.high, 1 - wrong.low, wrong.n)
    row = {"images": SEARCHED, "n": wrong.n, "attacked": broken.n}
    return [row | columns("accuracy", accuracy) | columns("success_eps", broken)]


def _classes(sample: GeneratedSet, threat: Threat) -> list[Row]:
    """Return valid share and success of each class."""
    table = []
    for label in sample.labels.unique().tolist():
        valid = rate(sample.validity.valid[sample.labels == label].numpy())
        success = rate(rec.successes(sample.rows.filter(label=label), threat.eps, threat.norm))
        row = {"class": label, "n": valid.n}
        table.append(row | columns("valid", valid) | columns("success_eps", success))
    return table


def _distances(results: Results) -> list[Row]:
    kinds = [(TEST, results.real.distance), ("generated", results.generated.validity.distance)]
    if results.searched:
        kinds.append(("after latent search", results.searched.validity.distance))
    return [
        {"images": name, "distance": finite(value)}
        for name, each in kinds
        for value in each.tolist()
    ]


def _why(sample: GeneratedSet) -> str:
    validity = sample.validity
    unconfirmed, distant = (
        (~validity.confirmed).sum().item(),
        (validity.realism <= LEVEL).sum().item(),
    )
    n, rejections = len(validity.valid), (~validity.valid).sum().item()
    return (
        f"Rejected: {rejections} of {counted(n, 'generated image')}. "
        f"The majority of the judges does not confirm the class of {unconfirmed}, and {distant} "
        f"lie farther from the training data than {1 - LEVEL:.0%} of real test images."
    )


def _notes(attack: str, results: Results) -> tuple[str, ...]:
    notes = [
        *_copies(results.generated),
        _why(results.generated),
        str(results.calibration),
        f"Audit attack: {attack}; on generated images it leaves an image once its perturbation is "
        "below eps. The two sets have different images, so the interval of the difference is that "
        "of two independent samples. Generated images are no test images: they count in no other "
        "finding.",
        f"The contrast of a generated image (standard deviation of its pixels) is "
        f"{results.contrast:.2f} times that of a test image.",
    ]
    absent = sorted(set(range(len(results.classes))) - set(results.generated.labels.tolist()))
    if absent and len(results.generated.labels) >= EXPECTED * len(results.classes):
        names = ", ".join(results.classes[number] for number in absent[:NAMED])
        more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
        notes.append(
            f"No image was made of {names}{more}: the rate is that of the other classes, while the "
            "test set has all."
        )
    searched = results.searched
    if searched is not None and results.with_search is not None:
        notes.append(
            "Latent search: descent on the model's margin in the generator's latents, from each "
            "valid image and kept near it; ends are attacked by one short search, if their start "
            f"withstands the audit attack. Of {searched.valid.n} ends the oracle accepts "
            f"{searched.valid.value:.1%}; the others do not count. A start is broken, before or "
            f"after the search, on {correct(results.with_search)}; this is a search for the worst "
            "image, so it is no success rate of typical ones."
        )
    return tuple(notes)


def _for_people(results: Results) -> tuple[list[Row], np.ndarray]:
    """Return the images that `scotoma judge` shows, with what each is to show."""
    sample, searched, controls = results.generated, results.searched, results.controls
    parts: list[tuple[str, GeneratedSet | Controls, int]] = []
    valid = sample.validity.valid
    for kind, mask, most in (("valid", valid, VALID), ("rejected", ~valid, REJECTED)):
        parts += [(kind, sample, row) for row in mask.nonzero().squeeze(1).tolist()[:most]]
    if searched is not None:
        ends = pl.DataFrame(
            {"index": range(len(searched.labels)), "label": searched.labels.numpy()}
        )
        chosen = one_a_class(ends.filter(searched.validity.valid.numpy()), SEARCHES)["index"]
        parts += [("searched", searched, row) for row in chosen]
    for row, wrong in enumerate(controls.wrong.tolist()):
        parts.append(("wrong label" if wrong else "test", controls, row))
    table = [
        {
            "kind": kind,
            "label": int(source.labels[row]),
            "class": results.classes[int(source.labels[row])],
            "valid": bool(source.validity.valid[row]),
        }
        for kind, source, row in parts
    ]
    return table, torch.stack([source.images[row] for _, source, row in parts]).numpy()


def _fooled(results: Results) -> list[tuple[Gallery, np.ndarray]]:
    """Return a gallery of valid images and the adversarial ones that an attack found near them."""
    sample, threat = results.generated, results.threat
    rows = one_a_class(sample.rows.filter(rec.fallen(sample.rows, threat.eps, threat.norm)))
    if not len(rows) or sample.run is None:
        return []
    attacks = rows[f"{threat.norm}_attack"].to_list()
    original, _, adversarial = sample.run.examples(attacks, None, rows["index"].to_list())
    label = partial(class_name, results.classes)
    captions = [
        [
            label(row["label"]),
            f"classified as {label(row[f'{threat.norm}_prediction'])}, {sized(row, threat.norm)}",
        ]
        for row in rows.iter_rows(named=True)
    ]
    caption = "Valid generated images that the model classifies correctly, and adversarial ones."
    columns = ["generated", "adversarial"]
    gallery = Gallery("fooled", caption, "fooled", columns, captions, adversarial=True)
    return [(gallery, np.stack([original, adversarial], 1))]


def _searches(results: Results) -> list[tuple[Gallery, np.ndarray]]:
    """Return a gallery of starts and ends of latent searches that the model gets wrong."""
    searched = results.searched
    if searched is None or searched.starts is None:
        return []
    wrong = one_a_class(searched.rows.filter(pl.col("prediction") != pl.col("label")))
    if not len(wrong):
        return []
    index = wrong["index"].to_list()
    starts, ends = results.generated.images[searched.starts[index]], searched.images[index]
    class_of = partial(class_name, results.classes)
    captions = [
        [class_of(label), f"valid, classified as {class_of(prediction)}"]
        for label, prediction in wrong.select("label", "prediction").iter_rows()
    ]
    caption = (
        "Valid generated images, and valid images near them in the generator's latents that the "
        "model misclassifies: no perturbation is added."
    )
    gallery = Gallery("searched", caption, "searched", ["start", "found"], captions)
    return [(gallery, torch.stack([starts, ends], 1).numpy())]


def _rejects(sample: GeneratedSet, classes: Sequence[str]) -> list[tuple[Gallery, np.ndarray]]:
    """Return a gallery of the first generated images that the oracle rejects."""
    validity = sample.validity
    rows = (~validity.valid).nonzero().squeeze(1).tolist()[:SHOWN]
    if not rows:
        return []
    class_of = partial(class_name, classes)
    captions = [
        [
            f"for {class_of(int(sample.labels[row]))}; judged "
            + ", ".join(map(class_of, validity.predictions[row].tolist()))
            + ("" if validity.realism[row] > LEVEL else "; far from the training data")
        ]
        for row in rows
    ]
    caption = (
        f"The first of {int((~validity.valid).sum())} generated images that the oracle rejects, "
        "with the class that each is to show and the classes that the judges see."
    )
    gallery = Gallery("rejected", caption, "rejected", ["rejected"], captions)
    return [(gallery, sample.images[rows][:, None].numpy())]
