"""Packages that are missing, or broken inside."""

from __future__ import annotations

import sys

import pytest

from scotoma.utils.errors import InputError
from scotoma.utils.optional import require


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("captum.attr", "this map needs captum; pip install captum"),
        ("faiss", "this map needs faiss; pip install faiss-cpu"),
    ],
)
def test_a_missing_package_is_one_line_that_says_how_to_install_it(module, message, monkeypatch):
    for part in (module, module.partition(".")[0]):
        monkeypatch.setitem(sys.modules, part, None)
    with pytest.raises(InputError) as raised:
        require(module, "this map")
    assert str(raised.value) == message


def test_a_package_that_lacks_one_of_its_own_needs_says_which(tmp_path, monkeypatch):
    (tmp_path / "half_a_package.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    message = r"half_a_package, which cannot be imported \(no_such_module_at_all is missing\)"
    with pytest.raises(InputError, match=message):
        require("half_a_package", "this map")
