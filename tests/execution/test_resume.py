"""kill -9 at any moment of an audit, then the command again: equal findings, no repeated unit."""

import json
import random
import shutil
import time
from pathlib import Path

import pytest

from processes import Process

UNITS = 8
"""Seven moves of the grid and the distances, of so few images that each is one unit."""


def command(model: Path, *options: str) -> list[str]:
    common = ["audit", str(model), "--data", "digits", "--threat", "linf:0.1", "--out", "run"]
    return [*common, *options]


def start(folder: Path, arguments: list[str]) -> Process:
    folder.mkdir(exist_ok=True)
    return Process(folder, arguments)


def finish(folder: Path, arguments: list[str]) -> dict:
    process = start(folder, arguments)
    _, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    return findings(folder)


def findings(folder: Path) -> dict:
    """findings.json without the times."""
    report = json.loads((folder / "run" / "findings.json").read_text())
    for key in ("started", "seconds"):
        del report["provenance"][key]
    return report


def units(folder: Path) -> dict[str, tuple[int, int]]:
    """Each finished unit's file, with its inode and time of writing."""
    files = (folder / "run" / "units").glob("*.parquet")
    stats = {file.name: file.stat() for file in files}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def killed(folder: Path, arguments: list[str], at: int, delay: float) -> dict[str, tuple[int, int]]:
    """Kill the audit `delay` seconds after it has `at` units. Returns the units that it leaves."""
    process = start(folder, arguments)
    while process.poll() is None and len(units(folder)) < at:
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    process.communicate()
    return units(folder)


def check(tmp_path: Path, arguments: list[str], kills: list[tuple[int, float]]) -> None:
    """Compare an audit that is killed so often with the one in `undisturbed`."""
    folder, before = tmp_path / "killed", {}
    for at, delay in kills:
        after = killed(folder, arguments, at, delay)
        assert before.items() <= after.items()
        before = after
    assert finish(folder, arguments) == findings(tmp_path / "undisturbed")
    assert before.items() <= units(folder).items()
    assert units(folder).keys() == units(tmp_path / "undisturbed").keys()
    assert len(units(folder)) >= UNITS
    assert not list((folder / "run" / "units").glob(".*"))


@pytest.mark.slow
def test_kill_9_and_again(tmp_path, digits_model, scotoma, monkeypatch):
    arguments = command(
        digits_model,
        "--attack",
        "fmn-linf",
        "--limit",
        "12",
        "--probes",
        "robustness,blindspots,distance",
    )
    (tmp_path / "undisturbed").mkdir()
    monkeypatch.chdir(tmp_path / "undisturbed")
    assert scotoma(*arguments).code == 0
    rng = random.Random(0)
    kills = [(3, rng.uniform(0, 0.1)), (UNITS, rng.uniform(0, 0.1))]
    check(tmp_path, arguments, kills)


@pytest.mark.slow
def test_kill_9_often_with_the_default_attack(tmp_path, digits_model):
    rng = random.Random(1)
    kills = sorted((rng.randrange(15), rng.uniform(0, 3)) for _ in range(12))
    finish(tmp_path / "undisturbed", command(digits_model))
    check(tmp_path, command(digits_model), kills)


@pytest.mark.slow
def test_kill_9_at_any_stage_of_a_short_audit(tmp_path, digits_model):
    """Most of this audit is its beginning and its end: claim, lock, findings and report."""
    arguments = command(digits_model, "--attack", "fmn-linf", "--limit", "20")
    undisturbed = finish(tmp_path / "undisturbed", arguments)
    rng = random.Random(2)
    for _ in range(15):
        shutil.rmtree(tmp_path / "killed", ignore_errors=True)
        killed(tmp_path / "killed", arguments, rng.choice([0, UNITS]), rng.uniform(0, 3))
        assert finish(tmp_path / "killed", arguments) == undisturbed
