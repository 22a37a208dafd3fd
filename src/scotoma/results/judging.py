"""Answers of people: which images they were shown, and how often they see the intended class.

A finding whose images people can judge has a table `judged` (columns `kind`, `label`, `class`, and
`valid` by the oracle) and an array `judged` with an image a row. Kinds are those of `KINDS`.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scotoma.results.finding import Bars, Finding, Row, Verdict, columns
from scotoma.results.report import Report, read_finding
from scotoma.utils.errors import InputError
from scotoma.utils.stats import UNDEFINED, Estimate, Rate, percentiles, rate, resamples

JUDGED = "judged"
"""Name of the table and of the array."""
KINDS = {
    "test": "control: untouched test images",
    "wrong label": "control: test images with a wrong label",
    "valid": "accepted by the oracle",
    "searched": "accepted by the oracle after a search",
    "rejected": "rejected by the oracle",
}
COLUMNS = ("run", "id", "answer", "seconds")
CANNOT_TELL = "cannot tell"
PROBE = "judge"
QUESTION = "Do people see the classes that the changed and generated images are to show?"
TRUSTED, AGREED = 0.8, 0.8
"""Share of right answers on controls from which a person is trusted, and share of valid images
below which the oracle accepts too much. People read handwritten digits with far fewer errors, so
both leave room for a few slips in a hundred images."""
RULE = (
    f"Undecided: on the controls fewer than {TRUSTED:.0%} of the answers are right. Holds: the "
    "95% interval of the share of accepted images on which the answer is the intended class lies "
    f"above {AGREED:.0%}. Broken: it lies below. Otherwise weak."
)


@dataclass(frozen=True, eq=False)
class Item:
    """An image to judge; `id` does not tell what kind it is."""

    id: str
    kind: str
    label: int
    valid: bool
    image: np.ndarray


@dataclass(frozen=True)
class Answers:
    """One person's answers: from the id of an item to a class, None for "cannot tell"."""

    person: str
    classes: dict[str, int | None]


def run_key(findings: Sequence[Finding]) -> str:
    """Return the key that marks answers as those to the images of these findings."""
    digest = hashlib.sha256()
    for finding in findings:
        if JUDGED in finding.images:
            digest.update(np.ascontiguousarray(finding.images[JUDGED]).tobytes())
    return digest.hexdigest()[:12]


def judged_before(folder: Path, findings: Sequence[Finding]) -> list[Finding]:
    """Return the earlier finding on people's answers to these images, if there is one."""
    if not (folder / "findings" / f"{PROBE}.json").exists():
        return []
    finding = read_finding(folder, PROBE)
    return [finding] if finding.numbers.get("run") == run_key(findings) else []


def items(report: Report) -> list[Item]:
    """Return the images of a run that people can judge, in an order that reveals nothing.

    Raises:
        InputError: there are none.
    """
    key, images = run_key(report.findings), []
    for finding in report.findings:
        if JUDGED not in finding.images:
            continue
        pairs = zip(finding.tables[JUDGED], finding.images[JUDGED], strict=True)
        for number, (row, image) in enumerate(pairs):
            code = hashlib.sha256(f"{key} {finding.probe} {number}".encode()).hexdigest()[:10]
            images.append(Item(code, row["kind"], row["label"], row["valid"], image))
    if not images:
        raise InputError(
            f"{report.folder}: this run has no images to judge; the probe generated makes them, on "
            "enough images"
        )
    return sorted(images, key=lambda item: item.id)


def class_names(report: Report) -> list[str]:
    """Return the names of the classes; a class that no image is to show is named by its number."""
    rows = [row for finding in report.findings for row in finding.tables.get(JUDGED, ())]
    names = {row["label"]: row["class"] for row in rows}
    return [names.get(number, str(number)) for number in range(1 + max(names))]


def read_answers(path: Path, report: Report, classes: int) -> Answers:
    """Read a CSV that the page wrote.

    Raises:
        InputError: the file cannot be read, is of another run, or has a wrong line.
    """
    key, codes, answers = run_key(report.findings), {item.id for item in items(report)}, {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    if not lines:
        raise InputError(f"{path}: has no answers")
    if missing := [name for name in COLUMNS[:3] if name not in lines[0]]:
        raise InputError(f"{path}: has no column {missing[0]!r}; want {', '.join(COLUMNS)}")
    for number, line in enumerate(lines, 2):
        where = f"{path}: line {number}"
        code, answer = line["id"] or "", (line["answer"] or "").strip()
        if line["run"] != key:
            raise InputError(f"{where}: answers to run {line['run']}; this run is {key}")
        if code not in codes:
            raise InputError(f"{where}: unknown image {code!r}")
        if code in answers:
            raise InputError(f"{where}: a second answer to image {code}")
        if answer == CANNOT_TELL:
            answers[code] = None
        elif answer.isdecimal() and int(answer) < classes:
            answers[code] = int(answer)
        else:
            raise InputError(
                f"{where}: answer {answer!r}; want a class from 0 to {classes - 1}, or "
                f"{CANNOT_TELL!r}"
            )
    return Answers(path.stem, answers)


def kappa(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Estimate:
    """Return Cohen's kappa of two judgements (n,) of the same images.

    The 95% interval is of the bootstrap over images. NaN where both say the same of every image.

    Source:
        Cohen 1960.

    >>> kappa(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0])).value
    0.5
    """
    n = len(first)
    values = np.unique(np.concatenate([first, second]))

    def value(indices: np.ndarray) -> float:
        a, b = first[indices], second[indices]
        chance = sum((a == each).mean() * (b == each).mean() for each in values)
        return float(((a == b).mean() - chance) / (1 - chance)) if chance < 1 else np.nan

    if n == 0:
        return UNDEFINED
    draws = np.array([value(sample) for block in resamples(n, seed) for sample in block])
    draws = draws[np.isfinite(draws)]
    ends = percentiles(draws) if len(draws) else (np.nan, np.nan)
    return Estimate(value(np.arange(n)), *ends, n)


def judgement(shown: Sequence[Item], people: Sequence[Answers], key: str = "") -> Finding:
    """Return the finding on what people answered about the images of `run_key`."""
    accepted, controls = _agreement(shown, people, "valid", "searched"), _controls(shown, people)
    between = columns("kappa_between_people", _between(*people[:2])) if len(people) > 1 else {}
    n_answers = sum(len(person.classes) for person in people)
    images = len({code for person in people for code in person.classes})
    fit = f"{controls.value:.1%} of the answers to controls are right" if controls.n else ""
    headline = (
        f"{len(people)} {'person' if len(people) == 1 else 'people'} judged {images} images "
        f"({n_answers} answers), and see the intended class in {accepted.value:.1%} "
        f"({100 * accepted.low:.1f}–{accepted.high:.1%}, n = {accepted.n} images) of the answers "
        f"to those that the oracle accepts; {fit}."
        if accepted.n
        else "No image that the oracle accepts has an answer."
    )
    return Finding(
        probe=PROBE,
        question=QUESTION,
        verdict=verdict(controls, accepted),
        rule=RULE,
        headline=headline,
        numbers={
            "people": len(people),
            "run": key,
            **columns("agreement_accepted", accepted),
            **columns("agreement_rejected", _agreement(shown, people, "rejected")),
            **columns("controls_right", controls),
            **columns("kappa_with_oracle", _with_oracle(shown, people)),
            **between,
        },
        tables={
            "people": [row for person in people for row in _by_kind(shown, person)],
            "kinds": _pooled(shown, people),
        },
        figures=(
            Bars(
                "kinds",
                "Share of people who see the class that the image is to show, with 95% intervals "
                "over images. Untouched test images show how well they read; wrong labels show "
                "that they do not agree with everything.",
                table="kinds",
                label="images",
                series={"see the intended class": "agreement"},
                y_label="share of answers",
            ),
        ),
        notes=(
            "People saw the images in random order, without labels, and chose a class or “cannot "
            "tell”, which counts as not seeing the intended class.",
            "An image counts once, by the share of the people who saw its intended class: more "
            "people do not narrow the intervals.",
            "Kappa compares, over all images, whether most people see the intended class with "
            "whether the oracle accepts the image.",
        ),
    )


def verdict(controls: Rate, accepted: Rate) -> Verdict:
    """Return the verdict of `RULE`."""
    if not accepted.n or not controls.n or controls.value < TRUSTED:
        return "undecided"
    if accepted.low > AGREED:
        return "holds"
    return "broken" if accepted.high < AGREED else "weak"


def _shares(
    shown: Sequence[Item], people: Sequence[Answers], kinds: Sequence[str]
) -> dict[str, float]:
    """Return the share of people who see the intended class, by image that somebody answered.

    Several answers to one image are one observation: more people make it surer what the image
    shows, and not what other images show.
    """
    shares = {}
    for item in shown:
        answers = [each.classes[item.id] for each in people if item.id in each.classes]
        if item.kind in kinds and answers:
            shares[item.id] = answers.count(item.label) / len(answers)
    return shares


def _agreement(shown: Sequence[Item], people: Sequence[Answers], *kinds: str) -> Rate:
    return rate(np.array([*_shares(shown, people, kinds).values()], float))


def _controls(shown: Sequence[Item], people: Sequence[Answers]) -> Rate:
    """Return the share of right answers to controls; of a wrong label, any other is right."""
    shares = [*_shares(shown, people, ("test",)).values()]
    shares += [1 - share for share in _shares(shown, people, ("wrong label",)).values()]
    return rate(np.array(shares, float))


def _with_oracle(shown: Sequence[Item], people: Sequence[Answers]) -> Estimate:
    shares = _shares(shown, people, tuple(KINDS))
    valid = np.array([item.valid for item in shown if item.id in shares], bool)
    return kappa(np.array([*shares.values()]) > 0.5, valid)


def _between(first: Answers, second: Answers) -> Estimate:
    """Return the kappa of the classes that two people chose, on the images of both."""
    codes = [code for code in first.classes if code in second.classes]
    classes = [[person.classes[code] for code in codes] for person in (first, second)]
    a, b = (np.array([-1 if each is None else each for each in row]) for row in classes)
    return kappa(a, b)


def _by_kind(shown: Sequence[Item], person: Answers) -> list[Row]:
    unsure = Counter(item.kind for item in shown if person.classes.get(item.id, 0) is None)
    return [
        {"person": person.person, "images": words, "n": sees.n, "cannot_tell": unsure[kind]}
        | columns("agreement", sees)
        for kind, words in KINDS.items()
        if (sees := _agreement(shown, [person], kind)).n
    ]


def _pooled(shown: Sequence[Item], people: Sequence[Answers]) -> list[Row]:
    return [
        {"images": words, "n": sees.n} | columns("agreement", sees)
        for kind, words in KINDS.items()
        if (sees := _agreement(shown, people, kind)).n
    ]
