"""Heavy packages that few measurements need, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from scotoma.utils.errors import InputError

INSTALLED_AS = {"faiss": "faiss-cpu"}
"""Names to install, where they differ from the module."""


def require(module: str, use: str, install: str = "") -> Any:
    """Import a module such as "captum.attr".

    Args:
        module: name of the module.
        use: what it is for; the message of an error begins with it.
        install: what pip is to install, if that is not the package alone.

    Raises:
        InputError: its package is not installed, or lacks another one.

    >>> require("math", "this example").sqrt(4.0)
    2.0
    """
    package = module.partition(".")[0]
    install = install or INSTALLED_AS.get(package, package)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        lacks = (error.name or package).partition(".")[0]
        but = "" if lacks == package else f", which cannot be imported ({error.name} is missing)"
        raise InputError(f"{use} needs {package}{but}; pip install {install}") from None
