"""The user's code: `path/to/file.py:function` and `package.module:function`."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from scotoma.utils.errors import InputError, reason
from scotoma.utils.registry import nearest

_neighbours: dict[str, Path] = {}
"""Modules that model files imported from their folders, with these folders."""


def build(spec: str) -> tuple[nn.Module | Callable[..., Any], str]:
    """Return the module or callable that the function builds, and its name, as in `function`.

    Raises:
        InputError: there is no such function, it raises an error, or returns something else.
    """
    source, _, maker_name = spec.rpartition(":")
    with function(spec, "model") as (maker, name):
        call = f"{source}: {maker_name}()"
        model = maker if isinstance(maker, nn.Module) else run(maker, call)
    if not callable(model) or isinstance(model, type):
        raise InputError(
            f"{call} returned {type(model).__name__}; want a torch.nn.Module, or a callable from "
            "images to logits"
        )
    return model, name


@contextlib.contextmanager
def function(spec: str, kind: str) -> Iterator[tuple[Callable[..., Any], str]]:
    """Yield what the name in the user's code is, and its name "file.py:function" without folders.

    Inside the context the code can import its neighbours: a file those in its folder, a dotted
    module those in the working folder.

    Args:
        spec: path/to/file.py:function or package.module:function.
        kind: what it makes, for error messages: "model" or "generator".

    Raises:
        InputError: there is no such file, module or function, or importing it raises an error.
    """
    source, _, attribute = spec.rpartition(":")
    path = Path(source).expanduser()
    in_file = path.suffix == ".py"
    if not attribute.isidentifier() or not (
        in_file or all(part.isidentifier() for part in source.split("."))
    ):
        raise InputError(
            f"{kind} {spec!r}: want file.py:FUNCTION, package.module:FUNCTION "
            f"or a {kind} file that exists"
        )
    if in_file and not path.is_file():
        raise InputError(f"{path}: no such file (from {kind} {spec!r})")
    name = f"{path.name}:{attribute}" if in_file else spec
    with importing_from(path.resolve().parent if in_file else Path.cwd()):
        module = run(
            lambda: _execute(path.resolve()) if in_file else importlib.import_module(source),
            f"{source}: importing it",
        )
        yield _find(module, attribute, source, kind), name


def _find(module: ModuleType, function: str, source: str, kind: str) -> Callable[..., Any]:
    maker = getattr(module, function, None)
    if maker is None:
        public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
        names = [name for name, value in public.items() if callable(value)]
        homes = {name: getattr(public[name], "__module__", None) for name in names}
        own = [name for name in names if homes[name] == module.__name__]
        hint = nearest(function, own or names)
        raise InputError(f"{source}: has no function {function!r}; {hint}")
    if not callable(maker):
        results = {"model": "a torch.nn.Module", "MAITE model": "a MAITE model, nor one itself"}
        raise InputError(
            f"{source}: {function} is {type(maker).__name__}, not a function that returns "
            f"{results.get(kind, 'images and labels')}"
        )
    return maker


def run(call: Callable[[], Any], what: str) -> Any:
    """Return what the user's code returns; whatever it raises becomes an `InputError`."""
    try:
        return call()
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a script that parses arguments may exit
        raise InputError(f"{what} raised {type(error).__name__}: {reason(error)}") from error


def _execute(path: Path) -> ModuleType:
    """Run a file as a module with a unique name, so that a model's `torch.py` is not `torch`."""
    name = f"scotoma_model_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a path that ends in .py has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, pickle and inspect look a class's module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Put `folder` first on `sys.path`, and drop modules from the folders of other models.

    Two models in two folders may each import their own `layers.py`.
    """
    for name in [name for name, home in _neighbours.items() if home != folder]:
        sys.modules.pop(name, None)
        del _neighbours[name]
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
        added = set(sys.modules) - before
        own = [name for name in added if _lies_in(sys.modules[name], folder)]
        _neighbours.update(dict.fromkeys(own, folder))


def _lies_in(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return (
        file is not None
        and Path(file).is_relative_to(folder)
        and "site-packages" not in Path(file).parts
    )
