"""The gate on finished audits, on the command line and in pytest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

import scotoma as library
from centroids import centroids
from scotoma.claims.file import read_claim
from scotoma.claims.gate import gate
from scotoma.claims.rules import Rule, apply, parse
from scotoma.report import publishing
from scotoma.results.finding import Finding
from scotoma.results.report import Report, read_report
from scotoma.utils.errors import InputError

EXAMPLE = Path(__file__).parents[2] / "examples" / "gate"
ACTION = Path(__file__).parents[2] / "action" / "action.yml"


@pytest.fixture(scope="module")
def runs(digits, tmp_path_factory) -> dict[str, Path]:
    """Audits of a linear model on 60 digits, and of one that is a little worse."""
    folder, model = tmp_path_factory.mktemp("runs"), centroids(digits)
    worse = centroids(digits)
    worse[1].weight[:4] *= 0.5  # type: ignore[index, operator]
    options = {"probes": ["robustness"], "attack": "pgd", "limit": 60}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "draw", read_report)
        for name, network in {"good": model, "worse": worse}.items():
            library.audit(network, digits, "linf:0.05", out=folder / name, **options)
    return {name: folder / name for name in ("good", "worse")}


@pytest.fixture
def good(runs) -> Report:
    return read_report(runs["good"])


def result(report: Report, text: str) -> str:
    return apply(parse(text), report).result


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("robust_accuracy >= 85", "is a share from 0 to 1; write 0.85 or 85%"),
        ("attack_success <= -1", "is a share from 0 to 1"),
        ("robustness.attack_success <= 15", "is a share from 0 to 1; write 0.15 or 15%"),
        ("robustness.test_set_attack_success < 2", "is a share from 0 to 1; write 0.02 or 2%"),
        ("drop_against_baseline <= 2", "is a share from -1 to 1; write 0.02 or 2%"),
        ("robust_accuracy >= nan", "'nan' is no number"),
        ("robustness.n > inf", "'inf' is no number"),
    ],
)
def test_a_rule_that_nothing_meets_is_refused(rule: str, says: str):
    with pytest.raises(InputError, match=says):
        parse(rule)


def test_bounds_decide(good):
    numbers = good["robustness"].numbers
    low, high = numbers["robust_accuracy_low"], numbers["robust_accuracy_high"]
    assert low < numbers["robust_accuracy"] < high
    assert result(good, f"robust_accuracy >= {low}") == "passed"
    assert result(good, f"robust_accuracy >= {numbers['robust_accuracy']}") == "undecided"
    assert result(good, f"robust_accuracy >= {high + 0.001}") == "failed"
    assert result(good, f"robust_accuracy <= {high}") == "passed"
    assert result(good, f"robust_accuracy < {low}") == "failed"
    assert result(good, "robustness.n > 59") == "passed"


def test_masked_gradients_leave_a_pass_undecided(good):
    masked = Finding("masking", "", "broken", "", "", {"masked": True, "circumvented": False})
    blind = replace(good, findings=[*good.findings, masked])
    assert result(good, "robust_accuracy >= 0.01") == "passed"
    assert result(blind, "robust_accuracy >= 0.01") == "undecided"
    assert result(blind, "robust_accuracy >= 0.99") == "failed", "what is fooled is fooled"
    assert result(blind, "masking != broken") == "failed"


def test_verdicts(good):
    undecided = replace(good, findings=[replace(good["robustness"], verdict="undecided")])
    assert result(undecided, "robustness != broken") == "undecided"
    assert result(undecided, "robustness == undecided") == "passed"
    named = gate(good).decisions
    assert [each.rule.text for each in named] == ["robustness != broken"]
    contradictory = replace(good, provenance={**good.provenance, "errors": ["inside a ball"]})
    assert gate(contradictory, [parse("robustness.n > 1")]).result == "failed"


def sampled(n: int, **numbers) -> Report:
    """A report on n of 500 test images."""
    finding = Finding("robustness", "", "weak", "", "", {"n": n, **numbers})
    return Report(Path("run"), {}, [finding], {"data": {"test": 500}})


def interval(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def test_a_rule_is_about_the_test_set_also_where_all_of_it_was_attacked():
    rule = parse("robust_accuracy >= 0.703")
    audited = interval("robust_accuracy", 0.735, 0.67, 0.791)
    whole = interval("test_set_robust_accuracy", 0.728, 0.703, 0.761)
    counts = {"test_set_images": 500, "test_set_attacked": 194}
    some = apply(rule, sampled(200, **audited, **whole, **counts))
    every = apply(rule, sampled(500, **interval("robust_accuracy", 0.742, 0.702, 0.778)))
    assert (some.result, every.result) == ("passed", "passed")
    assert "(0.703 to 0.761, on all 500 test images, n = 194 attacked)" in some.reason
    assert "0.742 (on all 500 test images, all attacked)" in every.reason
    near = [
        apply(parse(f"{name} >= 0.73"), sampled(200, **audited, **whole, **counts)).reason
        for name in ("robust_accuracy", "robustness.test_set_robust_accuracy")
    ]
    assert near[0] == near[1].replace("test_set_", ""), "one number, one n"
    assert near[0].endswith("; attacking all 500 test images decides")


def test_known_names_are_told_once():
    with pytest.raises(InputError) as caught:
        parse("zzz != broken")
    assert str(caught.value).count("generated") == 1


def test_findings_that_were_edited_are_not_what_the_audit_wrote(runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs["good"], copy)
    path = copy / "findings.json"
    path.write_text(path.read_text().replace('"verdict": "', '"verdict": "not '))
    with pytest.raises(InputError, match=r"findings\.json: is not what the audit wrote"):
        read_report(copy)


def test_a_drop_is_paired(good, runs):
    rules = [parse("drop_against_baseline <= 0.02")]
    assert gate(good, rules, runs["good"]).result == "undecided", "60 images say little"
    assert gate(good, [parse("drop_against_baseline <= 0.2")], runs["good"]).result == "passed"
    assert gate(good, [parse("drop_against_baseline >= -0.9")], runs["worse"]).result == "passed"
    with pytest.raises(InputError, match="give a baseline"):
        gate(good, rules)


@pytest.mark.parametrize("name", ["masking != broken", "robustness.robust_acc >= 0.5"])
def test_what_an_audit_does_not_have(good, name):
    with pytest.raises(InputError, match=r"this audit has no probe masking|did you mean"):
        apply(parse(name), good)


def test_undefined_is_undecided(good):
    finding = good["robustness"]
    numbers = {**finding.numbers, "attack_success": None, "test_set_attack_success": None}
    empty = replace(good, findings=[replace(finding, numbers=numbers)])
    rule = Rule("robustness", "attack_success", "<=", 0.5, "attack_success <= 0.5")
    assert apply(rule, empty).result == "undecided"


def test_command_and_files(scotoma, runs, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    numbers = read_report(runs["good"])["robustness"].numbers
    value = numbers.get("test_set_robust_accuracy", numbers["robust_accuracy"])
    rules = ["robust_accuracy >= 0.99", "robust_accuracy >= 0.01", f"robust_accuracy >= {value}"]
    given = [part for rule in rules for part in ("--rule", rule)]
    ended = scotoma("gate", runs["good"], *given, "--junit", tmp_path / "j.xml")
    assert ended.code == 1
    assert ended.out.rstrip().endswith("failed")
    suite = ElementTree.parse(tmp_path / "j.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    assert [case.get("name") for case in suite] == rules
    assert [[part.tag for part in case] for case in suite] == [
        ["failure", "system-out"],
        ["system-out"],
        ["skipped", "system-out"],
    ]
    text = (tmp_path / "summary.md").read_text()
    assert "gate: failed" in text
    assert text.count("| `") == 3
    assert scotoma("gate", runs["good"], "--rule", "robust_accuracy >= 0.01").code == 0
    assert scotoma("gate", runs["good"], "--rule", rules[2]).code == 3


@pytest.mark.usefixtures("undrawn")
def test_init_and_claims_on_the_command_line(scotoma, tmp_path, monkeypatch, digits_model):
    monkeypatch.chdir(tmp_path)
    ended = scotoma("init", "--model", digits_model, "--threat", "linf:0.1")
    assert ended.code == 0, ended.err
    again = scotoma("init")
    assert (again.code, again.err.count("\n")) == (2, 1)
    scotoma("init", "other.toml", "--model", "net.py:make", "--weights", "w.safetensors")
    assert read_claim(Path("other.toml")).request.weights == Path("w.safetensors")
    path = tmp_path / "claim.toml"
    text = path.read_text().replace("limit = 200", "limit = 20")
    text = text.replace("# robust_accuracy = 0.90", "robust_accuracy = 0.05")
    text = text.replace('# probes = ["robustness", "masking"]', 'probes = ["robustness"]')
    path.write_text(text.replace('    "masking != broken",\n', ""))
    audited = scotoma("audit", "claim.toml", "--attack", "pgd")
    assert audited.code == 0, audited.err
    headline = read_report(Path("runs/claim"))["robustness"].headline
    assert "The stated robust accuracy within L-inf 0.1 of 5.0% is not refuted" in headline
    report = scotoma("gate", "claim.toml", "--out", "runs/claim", "--rule", "robustness == holds")
    assert report.code == 0, report
    stored = (tmp_path / "runs" / "claim" / "claim.toml").read_text()
    assert f'source = "{digits_model}"' in stored
    missing = scotoma("gate", "claim.toml", "--rule", "drop_against_baseline <= 0")
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    without = scotoma("audit", digits_model, "--data", "digits")
    assert "--threat is missing" in without.err


TESTS = """
import torch
from centroids import centroids
from scotoma import load_data
from scotoma.testing import robust

options = {"threat": "linf:0.05", "images": 60, "attack": "pgd"}

def pair():
    digits = load_data("digits")
    return centroids(digits), digits

@robust(at_least=0.1, **options)
def test_good():
    return pair()

@robust(at_least=0.99, data="digits", **options)
def test_bad():
    return pair()[0]

options |= {"threat": "linf:1e-6"}

@robust(at_least=0.885, undecided="skip", probes=("robustness",), **options)
def test_few(tmp_path):
    return pair()
"""


@pytest.mark.slow
def test_as_a_test_of_pytest(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    installed = any(each.value == "scotoma.testing" for each in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "scotoma.testing"]
    loaded = subprocess.run(
        [*command, *plugin, "--junitxml", "j.xml", "test_it.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 1 passed, 1 skipped" in loaded.stdout, loaded.stdout
    assert "robust_accuracy >= 0.99: failed (robust_accuracy is" in loaded.stdout
    cases = ElementTree.parse(tmp_path / "j.xml").getroot().iter("testcase")
    measured = {case.get("name"): case.find("properties/property") for case in cases}
    assert "robust_accuracy is" in measured["test_good"].get("value")  # type: ignore[union-attr]


def test_a_decorator_that_cannot_be():
    from scotoma.testing import robust

    with pytest.raises(InputError, match="at_least=80"):
        robust("linf:0.1", 80)
    with pytest.raises(InputError, match="undecided='pass'"):
        robust("linf:0.1", 0.8, undecided="pass")

    with pytest.raises(InputError, match="decorate its methods"):

        @robust("linf:0.1", 0.8, data="digits")
        class TestModel:
            pass


@pytest.mark.parametrize(
    ("returned", "data", "says"),
    [
        (torch.nn.Flatten(), None, "return a model and its data"),
        (None, "digits", "model returned None; return the model"),
        (torch.nn.Flatten(1, 2), "digits", "want logits of shape"),
    ],
)
def test_what_a_test_returns_wrongly_is_one_line(returned, data, says: str):
    from scotoma.testing import robust

    @robust("linf:0.1", 0.8, data=data, images=5)
    def model():
        return returned

    with pytest.raises(pytest.fail.Exception, match=says) as failed:
        model()
    assert not failed.value.pytrace


@pytest.mark.parametrize(
    ("limit", "rule", "ends"),
    [
        pytest.param("200", ">= 0.6", (0, "result=passed"), marks=pytest.mark.slow),
        pytest.param("200", ">= 0.97", (1, "result=failed"), marks=pytest.mark.slow),
        pytest.param("20", ">= 0.75", (3, "result=undecided"), marks=pytest.mark.slow),
    ],
)
def test_the_action_runs_in_a_shell(tmp_path, digits_model, limit, rule, ends):
    """The step of the action, on the example project with a model of these tests."""
    yaml = pytest.importorskip("yaml")
    project = tmp_path / "project"
    shutil.copytree(EXAMPLE, project)
    shutil.copy(digits_model, project / "model.safetensors")
    claim = (project / "claim.toml").read_text().replace(">= 0.6", rule)
    claim = claim.replace("limit = 200", f'limit = {limit}\nattack = "pgd"')
    (project / "claim.toml").write_text(claim)
    step = yaml.safe_load(ACTION.read_text())["runs"]["steps"][1]
    inputs = {"claim": "claim.toml", "baseline": "", "undecided": "fail", "out": "runs/gate"}
    inputs["python"] = sys.executable
    values = {name: inputs[text.split(".")[1].split(" ")[0]] for name, text in step["env"].items()}
    values |= {"GITHUB_OUTPUT": str(project / "output"), "PYTHONPATH": os.pathsep.join(sys.path)}
    values |= {"GITHUB_STEP_SUMMARY": str(project / "summary.md")}
    ended = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
        cwd=project,
        env={**os.environ, **values},
        capture_output=True,
        text=True,
        check=False,
    )
    output = (project / "output").read_text().splitlines()[-1]
    assert (ended.returncode, output) == ends
    assert f"gate: {ends[1].partition('=')[2]}" in (project / "summary.md").read_text()
