"""Hashes of models: structure, code and weights of modules, and what other callables consist of."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEEPEST = 6
"""Steps from a callable to what it refers to, beyond which nothing is hashed."""
LIBRARIES = ("torch", "builtins", "scotoma")
"""Packages whose classes read no values of the user's from the top of their files."""


def module_hash(module: nn.Module) -> str:
    """Return the SHA-256 of a module's structure, code and weights.

    >>> module_hash(nn.ReLU()) == module_hash(nn.ReLU()), len(module_hash(nn.ReLU()))
    (True, 64)
    """
    return _module_hash(module, set())


def _module_hash(module: nn.Module, seen: set[int]) -> str:
    seen.add(id(module))
    digest = hashlib.sha256(str(module).encode())
    for line in _structure(module):
        digest.update(line.encode())
    for content in _beside(module, seen):
        digest.update(content)
    for key, value in sorted({**dict(module.named_buffers()), **module.state_dict()}.items()):
        if isinstance(value, Tensor):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            flat = value.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def callable_hash(function: Any) -> str:
    """Return the SHA-256 of a callable's code and of the values that it refers to.

    These are modules, tensors, arrays, numbers and texts among its closure, its globals, its
    arguments and its attributes. What it reads from elsewhere, as from a server, is not part of it.

    >>> def scaled(factor):
    ...     return lambda x: factor * x
    >>> callable_hash(scaled(2)) == callable_hash(scaled(2)) != callable_hash(scaled(3))
    True
    """
    digest = hashlib.sha256()
    for line in _contents(function, DEEPEST, set()):
        digest.update(line)
    return digest.hexdigest()


def _structure(module: nn.Module) -> Iterator[str]:
    """Yield what `str(module)` omits: plain settings, and the code of classes outside torch."""
    common = vars(nn.Module()).keys()
    kinds: dict[type, None] = {}
    for name, part in module.named_modules():
        own = ((key, value) for key, value in vars(part).items() if key not in common)
        settings = {key: value for key, value in own if _is_plain(value)}
        yield f"{name} {type(part).__qualname__} {settings} {getattr(part, 'code', '')}"
        kinds.update(dict.fromkeys(type(part).__mro__))
    for kind in kinds:
        if kind.__module__.partition(".")[0] not in ("torch", "builtins"):
            yield _source(kind)


def _beside(module: nn.Module, seen: set[int]) -> Iterator[bytes]:
    """Yield what is neither a weight nor a plain setting: tensors, functions and configurations
    among the attributes, hooks, and what the code of the user's classes reads from its file."""
    common = vars(nn.Module()).keys()
    kinds: dict[type, None] = {}
    for name, part in module.named_modules():
        kinds.update(dict.fromkeys(type(part).__mro__))
        for key, value in vars(part).items():
            private = key.startswith("_") and is_dataclass(value)  # what it keeps of earlier calls
            if key not in common and not _is_plain(value) and not private:
                for content in _values(value, seen):
                    yield f"{name}.{key} ".encode() + content
        for hook in (*part._forward_pre_hooks.values(), *part._forward_hooks.values()):
            yield from _values(hook, seen)
    for kind in kinds:
        if _is_users(kind):
            for function in filter(inspect.isfunction, vars(kind).values()):
                yield from _read(function, seen)
                if not _source(kind):
                    yield from _values(function, seen)


def _is_users(kind: type) -> bool:
    """Return whether a class is of the user's own code, not of an installed package."""
    if kind.__module__.partition(".")[0] in LIBRARIES:
        return False
    try:
        return "site-packages" not in inspect.getfile(kind)
    except (OSError, TypeError):  # typed at a prompt
        return True


def _read(function: FunctionType, seen: set[int]) -> Iterator[bytes]:
    """Yield the values that a function reads from the top of its file, and its helpers there."""
    with contextlib.suppress(ValueError):  # a variable of the closure that has no value yet
        for name, value in sorted(inspect.getclosurevars(function).globals.items()):
            for content in _values(value, seen):
                yield f"{name} ".encode() + content


def _values(value: Any, seen: set[int]) -> Iterator[bytes]:
    """Yield what decides a computation, of kinds that are the same in another process."""
    kind = type(value)
    if _is_plain(value) or isinstance(value, np.generic | bytes | complex | slice):
        yield f"{kind.__name__} {value!r}".encode()
    elif isinstance(value, torch.dtype | torch.device):
        yield str(value).encode()
    elif isinstance(value, Tensor | np.ndarray):
        array = value.detach().cpu().contiguous() if isinstance(value, Tensor) else value
        shape = f"{array.dtype} {tuple(array.shape)}".encode()
        flat = array.flatten().view(torch.uint8).numpy() if isinstance(array, Tensor) else array
        yield shape + np.ascontiguousarray(flat).tobytes()
    elif isinstance(value, type | BuiltinFunctionType):
        yield value.__qualname__.encode()
    elif id(value) not in seen:
        seen.add(id(value))
        if isinstance(value, nn.Module):
            yield _module_hash(value, seen).encode()
        elif isinstance(value, set | frozenset):
            yield from sorted(b"".join(_values(each, seen)) for each in value)
        else:
            for name, part in _members(value):
                for content in _values(part, seen):
                    yield f"{name} ".encode() + content


def _members(value: Any) -> list[tuple[str, Any]]:
    """Return names and values of what a container, a configuration or a function consists of."""
    if isinstance(value, Mapping):
        return sorted(((str(key), part) for key, part in value.items()), key=lambda each: each[0])
    if isinstance(value, list | tuple):
        return [(str(number), part) for number, part in enumerate(value)]
    if isinstance(value, functools.partial):
        return [("function", value.func), ("args", value.args), ("keywords", value.keywords)]
    if isinstance(value, MethodType):
        return [("function", value.__func__)]
    if isinstance(value, FunctionType):
        with contextlib.suppress(ValueError):
            closure = [
                (str(n), cell.cell_contents) for n, cell in enumerate(value.__closure__ or ())
            ]
            code = [("code", value.__code__), ("defaults", value.__defaults__)]
            return [("name", value.__qualname__), *code, *closure]
    if isinstance(value, CodeType):
        names = [("code", value.co_code), ("names", value.co_names)]
        return [*names, *((str(n), const) for n, const in enumerate(value.co_consts))]
    if is_dataclass(value):
        return [(each.name, getattr(value, each.name, None)) for each in fields(value)]
    return []


@functools.lru_cache(1000)
def _source(kind: type) -> str:
    """Return the code of a class: `inspect` parses its whole file, of thousands of lines for some.

    A class typed at a prompt has none.
    """
    with contextlib.suppress(OSError, TypeError):
        return inspect.getsource(kind)
    return ""


def _contents(value: Any, steps: int, seen: set[int]) -> Iterator[bytes]:
    """Yield what a value consists of, within some steps."""
    if isinstance(value, np.generic | bytes) or _is_plain(value):
        yield f"{type(value).__name__} {value!r}".encode()
        return
    if not steps or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        yield module_hash(value).encode()
    elif isinstance(value, Tensor | np.ndarray):
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        yield f"{array.dtype} {array.shape}".encode()
        yield np.ascontiguousarray(array).tobytes()
    elif isinstance(value, CodeType):
        yield value.co_code
        yield " ".join(value.co_names).encode()
        yield from _constants(value.co_consts, steps - 2, seen)
    elif isinstance(value, set | frozenset):  # strings lie in another order in each process
        yield from sorted(b"".join(_contents(each, steps - 1, seen)) for each in value)
    else:
        yield type(value).__qualname__.encode()
        for name, part in _parts(value):
            yield name.encode()
            yield from _contents(part, steps - 1, seen)


def _constants(constants: tuple, steps: int, seen: set[int]) -> Iterator[bytes]:
    if _is_plain(constants):
        yield f"list {list(constants)!r}".encode()
        return
    yield b"list"
    for number, constant in enumerate(constants):
        yield str(number).encode()
        yield from _contents(constant, steps, seen)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and values of what an object refers to."""
    if isinstance(value, MethodType):
        yield from (("function", value.__func__), ("self", value.__self__))
    elif isinstance(value, functools.partial):
        yield from (("function", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, FunctionType):
        yield from (("code", value.__code__), ("defaults", value.__defaults__))
        with contextlib.suppress(ValueError):  # a variable of the closure that has no value yet
            read = inspect.getclosurevars(value)
            yield from sorted({**read.nonlocals, **read.globals}.items())
    elif isinstance(value, Mapping):
        yield from sorted(
            ((str(key), part) for key, part in value.items()), key=lambda each: each[0]
        )
    elif isinstance(value, list | tuple):
        yield from ((str(number), part) for number, part in enumerate(value))
    elif not isinstance(value, type | ModuleType) and hasattr(value, "__dict__"):
        yield from (("kind", vars(type(value)).get("__call__")), *sorted(vars(value).items()))
        for kind in filter(_is_users, type(value).__mro__):
            yield from sorted(
                (n, part) for n, part in vars(kind).items() if inspect.isfunction(part)
            )


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
