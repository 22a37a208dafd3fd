"""What a user of the library finds after `import scotoma`, in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import scotoma


def fresh(code: str) -> str:
    """What the code prints in a new interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_namespaces_and_functions_can_be_completed():
    names = fresh("import scotoma; print(*dir(scotoma))").split()
    assert set(scotoma.__all__) <= set(names)


@pytest.mark.parametrize("namespace", ["attacks", "metrics", "transforms"])
def test_a_namespace_is_there_after_the_import_of_the_package(namespace: str):
    assert fresh(f"import scotoma; print(scotoma.{namespace}.__name__)") == f"scotoma.{namespace}"


def test_the_import_waits_for_torch():
    assert fresh("import sys, scotoma; print('torch' in sys.modules)") == "False"


def test_types_are_declared_to_other_projects():
    assert (Path(scotoma.__file__).parent / "py.typed").exists()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'atacks'"):
        scotoma.atacks  # noqa: B018  # type: ignore[attr-defined]
