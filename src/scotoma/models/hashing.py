"""Hashes of models: structure, code and weights of modules, and what other callables consist of."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEEPEST = 6
"""Steps from a callable to what it refers to, beyond which nothing is hashed."""


def module_hash(module: nn.Module) -> str:
    """Return the SHA-256 of a module's structure, code and weights.

    >>> module_hash(nn.ReLU()) == module_hash(nn.ReLU()), len(module_hash(nn.ReLU()))
    (True, 64)
    """
    digest = hashlib.sha256(str(module).encode())
    for line in _structure(module):
        digest.update(line.encode())
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
        yield from _contents(list(value.co_consts), steps - 1, seen)
    else:
        yield type(value).__qualname__.encode()
        for name, part in _parts(value):
            yield name.encode()
            yield from _contents(part, steps - 1, seen)


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
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((str(number), part) for number, part in enumerate(value))
    elif not isinstance(value, type | ModuleType) and hasattr(value, "__dict__"):
        yield from (("kind", vars(type(value)).get("__call__")), *sorted(vars(value).items()))


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
