"""Every public name shows an example, and every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

import scotoma
from scotoma.models import ARCHITECTURES
from scotoma.models.defences import DEFENCES
from scotoma.training import AUGMENTATIONS, RECIPES

ROOT = Path(scotoma.__file__).parent
NAMESPACES = ("attacks", "attribution", "certificates", "data", "metrics", "transforms")
"""Packages whose `dir` is part of the public interface."""
TABLES = {
    "model": ARCHITECTURES,
    "defence": DEFENCES,
    "recipe": RECIPES,
    "augmentation": AUGMENTATIONS,
}
"""Objects that users reach by name only."""


def modules() -> list[str]:
    """Return the modules whose source has an example, without importing any."""
    files = (file for file in ROOT.rglob("*.py") if ">>> " in file.read_text())
    parts = (file.relative_to(ROOT.parent).with_suffix("").parts for file in files)
    return sorted(".".join(each).removesuffix(".__init__") for each in parts)


def public() -> dict[str, Any]:
    """Return all that a user reaches through the namespaces and tables, by a readable name."""
    objects = {f"scotoma.{name}": getattr(scotoma, name) for name in scotoma.__all__}
    for namespace in NAMESPACES:
        package = getattr(scotoma, namespace)
        for name in (name for name in dir(package) if not name.startswith("_")):
            value = getattr(package, name)
            if getattr(value, "__module__", "").startswith(package.__name__) and callable(value):
                objects[f"scotoma.{namespace}.{name}"] = value
    for kind, table in TABLES.items():
        objects |= {f"{kind}: {name}": table[name] for name in table}
    return objects


def lacks_example(value: Any) -> bool:
    """Return whether the docstring has no example."""
    return ">>> " not in (value.__doc__ or "")


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder without data sets and without a network, and fixed random numbers."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError("an example uses the network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCOTOMA_DATA", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    torch.manual_seed(0)


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("name", modules())
def test_examples_run(name: str, capsys: pytest.CaptureFixture):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed, capsys.readouterr().out


def test_every_public_name_has_an_example():
    lacking = [name for name, value in public().items() if lacks_example(value)]
    assert not lacking
