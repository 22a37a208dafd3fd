"""Heavy packages that few measurements need, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from scotoma.utils.errors import InputError

INSTALLED_AS = {"faiss": "faiss-cpu"}
"""Names to install, where they differ from the module."""


def require(module: str, use: str) -> Any:
    """Import a module such as "captum.attr".

    Raises:
        InputError: its package is not installed; the message begins with what it is for, `use`.

    >>> require("math", "this example").sqrt(4.0)
    2.0
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        name = INSTALLED_AS.get(package, package)
        raise InputError(f"{use} needs {package}; pip install {name}") from None
