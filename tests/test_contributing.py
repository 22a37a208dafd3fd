"""What CONTRIBUTING.md and the README show works as printed."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import scotoma
from scotoma.attacks import ATTACKS, make
from scotoma.models.defences import DEFENCES
from scotoma.probes import PROBES
from scotoma.probes.base import Probe
from scotoma.probes.blindspots.map import BlindSpotMap
from scotoma.results.finding import Finding
from scotoma.training import RECIPES
from scotoma.transforms import TRANSFORMS
from scotoma.utils.random import Randomness
from scotoma.utils.registry import Table

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"`(src/scotoma/\S+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)


def shown(package: str) -> tuple[str, str, dict[str, str]]:
    """The module that CONTRIBUTING.md adds to a package: path, source, entry of the table."""
    blocks = dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()))
    line = blocks.pop(f"src/scotoma/{package}/__init__.py")
    path, source = next(item for item in blocks.items() if f"/{package}/" in item[0])
    return path, source, ast.literal_eval(f"{{{line}}}")


def add(package: str, table: Table, folder: Path, monkeypatch) -> str:
    """Follow CONTRIBUTING.md in a folder that becomes part of the package; return the new name."""
    path, source, entry = shown(package)
    (name, (module, _)) = next((name, text.split(":")) for name, text in entry.items())
    assert path == f"src/scotoma/{module.replace('.', '/')}.py"
    file = folder / Path(path).relative_to(f"src/scotoma/{package}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    if file.parent != folder:
        (file.parent / "__init__.py").touch()
    monkeypatch.setattr(
        importlib.import_module(f"scotoma.{package}"),
        "__path__",
        [str(folder), str(ROOT / "src/scotoma" / package)],
    )
    monkeypatch.setitem(table.entries, name, entry[name])
    return name


def test_the_attack_is_that_of_the_tree(tmp_path, monkeypatch, digits, linear):
    path, source, entry = shown("attacks")
    ((name, target),) = entry.items()
    assert ATTACKS.entries[name] == target
    assert path == f"src/scotoma/{target.partition(':')[0].replace('.', '/')}.py"
    (tmp_path / "printed.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("printed")
    attack = getattr(module, target.partition(":")[2])(scotoma.Threat("linf", 0.2))
    images, labels = digits.test.images(torch.arange(100)), digits.test.labels[:100]
    adversarial = attack(linear, images, labels)
    assert torch.equal(make(name, attack.threat)(linear, images, labels), adversarial)
    assert (linear(adversarial).argmax(1) != labels).float().mean() > 0.3


def test_the_second_attack_draws_by_image_and_returns_an_image_unchanged_if_it_fails(
    tmp_path, monkeypatch, digits, linear
):
    blocks = dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()))
    (tmp_path / "random_line.py").write_text(blocks["src/scotoma/attacks/random_line.py"])
    monkeypatch.syspath_prepend(tmp_path)
    attack = importlib.import_module("random_line").RandomLine("l2")
    images = digits.test.images(torch.arange(30))
    labels = linear(images).argmax(1)
    found = attack(linear, images, labels)
    fooled = linear(found).argmax(1) != labels
    assert fooled.float().mean() > 0.5
    assert torch.equal(found[~fooled], images[~fooled])
    assert 0 <= found.min() <= found.max() <= 1
    part = Randomness(0, torch.arange(7, 9))
    again = attack(linear, images[7:9], labels[7:9], generator=part)
    assert torch.allclose(again, found[7:9])
    with pytest.raises(scotoma.InputError, match="for linf and l2 and l1, not for l0"):
        type(attack)("l0")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("attacks.nothing:FGSM", "'attacks.nothing:FGSM' of attack 'mine' names no module"),
        ("attacks.single_step:Fgsm", "'mine': the module has no 'Fgsm'"),
    ],
)
def test_a_wrong_line_in_a_table_is_named(monkeypatch, scotoma, entry: str, message: str):
    monkeypatch.setitem(ATTACKS.entries, "mine", entry)
    ended = scotoma("list", "attacks")
    assert ended[0] == 2
    assert message in ended[2]


def test_the_probe_works(tmp_path, monkeypatch, linear):
    name = add("probes", PROBES, tmp_path, monkeypatch)
    report = scotoma.audit(
        linear, "digits", "linf:0.3", probes=[name], attack="fgsm", limit=60, out=tmp_path / "run"
    )
    finding = report[name]
    assert finding.verdict == "broken"
    assert finding.headline.startswith("In the surer half attacks fool ")
    assert finding.question in report.html.read_text()
    records = report.records.filter(report.records["prediction"] == report.records["label"])
    surest = records.sort("margin", descending=True).head(len(records) // 2)
    assert finding.numbers["attack_success"] == pytest.approx(surest["success"].mean(), abs=1e-5)


def test_a_probe_that_returns_no_conclusion_is_named_in_the_report(linear):
    class Hasty(Probe):
        question = "Is it over yet?"

        def measure(self, claim, run, settings) -> Any:
            return Finding("hasty", self.question, "holds", "a rule", "It is.")

    probes = [Hasty(), "robustness"]
    report = scotoma.audit(linear, "digits", "linf:0.3", probes=probes, attack="fgsm", limit=10)
    (error,) = report.errors
    assert "probe hasty: measure returned a Finding, not a function" in error
    assert report["robustness"].numbers["n"] == 10


def test_the_transform_works(tmp_path, monkeypatch, digits, linear):
    name = add("transforms", TRANSFORMS, tmp_path, monkeypatch)
    images = digits.test.images(torch.arange(50))
    for transform in TRANSFORMS[name].sweep():
        changed = transform(images)
        assert changed.shape == images.shape
        assert 0 <= changed.min() <= changed.max() <= 1
        assert torch.equal(transform(images[7:9]), changed[7:9])
    search = BlindSpotMap((name,), steps=2)
    report = scotoma.audit(
        linear,
        "digits",
        "linf:0.05",
        probes=[search],
        attack="fgsm",
        limit=40,
        out=tmp_path / "run",
    )
    assert "posterisation to" in report.html.read_text()


def test_what_was_added_is_listed(tmp_path, monkeypatch, scotoma):
    name = add("transforms", TRANSFORMS, tmp_path, monkeypatch)
    assert re.search(rf"^  {name} +Every pixel rounded", scotoma("list", "transforms").out, re.M)


def test_the_python_of_the_readme_runs(capsys):
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2
    assert "robustness" in capsys.readouterr().out
    assert names["adversarial"].shape == names["images"].shape
    assert (names["adversarial"] - names["images"]).abs().max() <= 0.1 + 1e-6
    assert (names["model"](names["adversarial"]).argmax(1) != names["labels"]).any()


def test_the_readme_counts_right():
    text = " ".join((ROOT / "README.md").read_text().split())
    for table, what in ((ATTACKS, "attacks in"), (RECIPES, "recipes"), (DEFENCES, "broken def")):
        assert f" {len(list(table))} {what}" in text, what


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_a_page_names_files_that_exist(page: str):
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / link).exists(), link
