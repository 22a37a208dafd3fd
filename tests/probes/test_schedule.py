"""A budget of time: the audit stops with what it measured, and the next run continues."""

import time
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

import scotoma
from scotoma.attacks.pgd import PGD
from scotoma.auditing import make_claim
from scotoma.execution.budget import Budget, OutOfTimeError, spoken
from scotoma.execution.run import Run
from scotoma.probes.base import Conclusion, Probe, Settings
from scotoma.probes.divergence.probe import Divergence
from scotoma.probes.schedule import CHEAP_FIRST, Outcome, measure
from scotoma.report.publishing import draw
from scotoma.results.finding import Finding
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Silent

THREAT = Threat("linf", 0.1)


@dataclass
class Asks(Probe):
    """A probe that takes so many seconds, and writes down of how many images it was asked."""

    takes: float = 0.0
    question: str = "Is it?"
    seen: list[int] = field(default_factory=list)

    def measure(self, claim, run, settings) -> Conclusion:
        with run.progress.bar("asking", 1) as advance:
            time.sleep(self.takes)
            advance(1)
        self.seen.append(len(run.indices))
        answer = "asks", self.question, "holds", "a rule", f"{len(run.indices)} images"
        return lambda ledger: Finding(*answer, notes=("as it was",))


def run_of(folder, linear, digits, budget: Budget | None, limit: int = 300) -> Run:
    return Run(make_claim(linear, digits, THREAT), folder, limit=limit, budget=budget)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("20m", 1200), ("20 min", 1200), ("1.5h", 5400), ("7", 7), (30, 30), (0.5, 0.5)],
)
def test_times_as_people_write_them(text, seconds):
    assert Budget.parse(text).seconds == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "0s", "-5m", "20 m 5", "3d", "nan", "inf"])
def test_what_is_no_time(text):
    with pytest.raises(InputError, match=f"budget={text}: want a time such as 90s, 20m or 2h"):
        Budget.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (40, "40 s"), (720, "12 min"), (12600, "3.5 h")]
)
def test_times_in_a_sentence(seconds, text):
    assert spoken(seconds) == text


def test_without_a_budget_every_probe_is_asked_once_of_all_images(tmp_path, linear, digits):
    run, probes = run_of(tmp_path, linear, digits, None), {"b": Asks(), "a": Asks()}
    answers = measure(probes, run, Settings())
    assert [probe.seen for probe in probes.values()] == [[300], [300]]
    assert answers.whole
    assert answers.reached == {"b": 300, "a": 300}
    assert [finding.notes for finding in answers.findings(run.ledger)] == [("as it was",)] * 2


def test_within_a_budget_images_grow_and_the_quick_come_first(tmp_path, linear, digits):
    order = []

    @dataclass
    class Named(Asks):
        name: str = ""

        def measure(self, claim, run, settings) -> Conclusion:
            order.append((self.name, len(run.indices)))
            return super().measure(claim, run, settings)

    names = ("norms", "mine", "robustness", "distance")
    probes = {name: Named(takes=0.2 if name == "robustness" else 0.0, name=name) for name in names}
    run = run_of(tmp_path, linear, digits, Budget(60))
    answers = measure(probes, run, Settings())
    assert answers.whole
    assert [name for name, n in order if n == 50] == ["robustness", "distance", "norms", "mine"]
    assert [n for _, n in order] == [50] * 4 + [250] * 4 + [300] * 4
    assert [name for name, n in order if n == 250][-1] == "robustness"
    assert (
        answers.findings(run.ledger)
        == [Finding("asks", "Is it?", "holds", "a rule", "300 images", notes=("as it was",))] * 4
    )


class Visible(Silent):
    """What somebody sees stays in `lines`."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    @property
    def visible(self) -> bool:
        return True

    def keep(self, text: str) -> None:
        self.lines.append(text)


def test_a_long_audit_says_something_soon(tmp_path, linear, digits):
    progress, claim = Visible(), make_claim(linear, digits, THREAT)
    run = Run(claim, tmp_path, limit=300, progress=progress)
    probes = {"asks": Asks(), "again": Asks()}
    outcome = measure(probes, run, Settings())
    assert all(probe.seen == [10, 50, 300] for probe in probes.values())
    assert [line.split(" in ")[0] for line in progress.lines] == [
        "asks, 10 images",
        "again, 10 images",
        "asks, 50 images",
        "again, 50 images",
        "asks, 300 images",
        "again, 300 images",
    ]
    assert progress.lines[0].endswith(": holds so far. 10 images")
    assert all(finding.headline.startswith("300") for finding in outcome.findings(run.ledger))
    few = run.subset(run.indices[:150])
    measure(probes, few, Settings())
    assert probes["asks"].seen[3:] == [150]


def test_a_first_look_leaves_no_trace_in_an_audit_that_goes_on(tmp_path, linear, digits):
    probes = ["robustness", "distance", Divergence(points=100)]
    options: dict = {"probes": probes, "limit": 200}
    seen = scotoma.audit(
        linear, digits, THREAT, out=tmp_path / "seen", progress=Visible(), **options
    )
    unseen = scotoma.audit(linear, digits, THREAT, out=tmp_path / "unseen", **options)
    assert seen.records.equals(unseen.records)
    for name in ("robustness", "distance", "divergence"):
        assert seen[name].numbers == unseen[name].numbers


def test_an_audit_stopped_after_its_first_look_reports_it(tmp_path, linear, digits):
    class Inequality(Asks):  # in the place of the probe of this name, after robustness
        def measure(self, claim, run, settings) -> Conclusion:
            if len(run.indices) > 10:
                raise KeyboardInterrupt
            return super().measure(claim, run, settings)

    probes = ["distance", Inequality(), "robustness"]
    options: dict = {"probes": probes, "limit": 200, "out": tmp_path}
    report = scotoma.audit(linear, digits, THREAT, progress=Visible(), **options)
    assert report.provenance["stopped"] is True
    assert report["robustness"].numbers["n"] == 50
    assert report["asks"].headline == "10 images"
    assert report["asks"].notes[0].startswith("Measured on 10 of 200 images")
    assert report["distance"].notes[0].startswith("Measured on 10 of 200 images")
    kept = report.records.group_by("attack").len().sort("len")
    assert [row["attack"][:6] for row in kept.to_dicts()] == ["MinLin", "Strong"]
    assert kept["len"].to_list() == [10, 50]


def test_when_the_time_is_over_each_tells_of_what_it_reached(tmp_path, linear, digits):
    run = run_of(tmp_path, linear, digits, Budget(1.0))
    probes = {"slow": Asks(takes=5.0), "robustness": Asks()}
    began = time.monotonic()
    answers = measure(probes, run, Settings())
    assert answers.reached == {"slow": 0, "robustness": 50}
    assert not answers.whole
    slow, quick = answers.findings(run.ledger)
    assert (slow.probe, slow.verdict, slow.question) == ("slow", "undecided", "Is it?")
    assert (
        slow.headline
        == "Not reached within the budget of 1 s; the same command continues from here."
    )
    assert quick.headline == "50 images"
    assert quick.notes[0].startswith(
        "Measured on 50 of 300 images, drawn at random, within the budget of 1 s"
    )
    assert "Images (of 300) reached: 50 by robustness; 0 by slow. The" in answers.shortfall()
    few = run.subset(run.indices[:50])
    both = Outcome(
        {"a": Asks(), "b": Asks()}, run, dict.fromkeys("ab", (lambda ledger: quick, few))
    )
    assert "reached: 50 by every probe." in both.shortfall()
    assert time.monotonic() - began < 20


def test_an_attack_ends_in_the_middle_and_leaves_the_model_as_it_was(tmp_path, linear, digits):
    class Slow(nn.Module):
        def forward(self, images):
            time.sleep(0.02)
            return linear(images)

    module, budget = Slow(), Budget(0.5)
    run = Run(make_claim(module, digits, THREAT), tmp_path, limit=40, budget=budget)
    began = time.monotonic()
    with pytest.raises(OutOfTimeError), run.watched():
        run.attack(PGD(THREAT, steps=10_000))
    assert time.monotonic() - began < 20
    assert not module._forward_pre_hooks
    assert module(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert not list((tmp_path / "units").glob("*"))


@pytest.mark.usefixtures("undrawn")
def test_an_audit_within_a_budget_goes_on_to_what_it_finds_without(tmp_path, linear):
    options = {"probes": ["robustness", "distance"], "attack": "fmn-linf", "limit": 120}
    whole = scotoma.audit(linear, "digits", "linf:0.1", out=tmp_path / "whole", **options)
    short = scotoma.audit(
        linear, "digits", "linf:0.1", out=tmp_path / "run", budget=0.05, **options
    )
    assert {finding.verdict for finding in short.findings} == {"undecided"}
    assert "The budget of 1 s ended before the audit was complete" in short.provenance["notes"][-1]
    assert draw(short.folder).html.exists()
    again = scotoma.audit(
        linear, "digits", "linf:0.1", out=tmp_path / "run", budget="2m", **options
    )
    assert again.provenance["digest"] == whole.provenance["digest"]
    assert again.provenance["budget"] == 120
    assert again.provenance["notes"] == whole.provenance["notes"]


def test_the_order_names_probes_once_and_one_that_it_does_not_name_comes_last():
    from scotoma.probes import PROBES

    assert len(set(CHEAP_FIRST)) == len(CHEAP_FIRST)
    assert set(CHEAP_FIRST) <= set(PROBES)
    assert len(CHEAP_FIRST) == len(list(PROBES))


class Fails(Asks):
    """A probe with a mistake."""

    def measure(self, claim, run, settings) -> Conclusion:
        raise RuntimeError("no such\nlayer")


def test_a_probe_that_fails_does_not_take_the_others_with_it(tmp_path, linear, digits):
    report = scotoma.audit(linear, digits, THREAT, out=tmp_path, probes=[Fails(), Asks()], limit=9)
    failed, other = report.findings
    assert (failed.probe, failed.verdict) == ("fails", "undecided")
    assert failed.headline == "RuntimeError: no such layer."
    assert other.headline == "9 images"
    assert "The probe fails failed (RuntimeError: no such layer)" in report.errors[0]
    assert "RuntimeError: no such" in (tmp_path / "errors" / "fails.txt").read_text()
    assert report.errors[0] in report.html.read_text().replace("&#39;", "'")


def test_a_conclusion_that_fails_is_one_of_its_probe(tmp_path, linear, digits):
    class Concludes(Asks):
        def measure(self, claim, run, settings) -> Conclusion:
            return lambda ledger: 1 / 0  # type: ignore[return-value]

    report = scotoma.audit(linear, digits, THREAT, out=tmp_path, probes=[Concludes(), Asks()])
    assert report["concludes"].headline == "ZeroDivisionError: division by zero."
    assert report["asks"].verdict == "holds"


def test_when_the_user_stops_it_reports_what_there_is(tmp_path, linear, digits):
    class Stopped(Asks):
        def measure(self, claim, run, settings) -> Conclusion:
            raise KeyboardInterrupt

    report = scotoma.audit(linear, digits, THREAT, out=tmp_path, probes=[Asks(), Stopped()])
    assert report.provenance["stopped"] is True
    assert report["asks"].verdict == "holds"
    assert report["stopped"].headline.startswith("Not reached before the audit was stopped")
    assert "The audit was stopped before" in report.provenance["notes"][-1]
    with pytest.raises(KeyboardInterrupt):
        scotoma.audit(linear, digits, THREAT, out=tmp_path / "b", probes=[Stopped()])
