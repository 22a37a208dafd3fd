"""Names of attacks and transforms in records, and descriptions that identify a work unit."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from functools import lru_cache
from types import FunctionType
from typing import Any

from scotoma.attacks.core.base import UNNAMED
from scotoma.models.classifier import Classifier
from scotoma.models.hashing import callable_hash


def fingerprint(model: Classifier) -> dict[str, str]:
    """Return the hashes of a model's weights and of its module as printed."""
    return {"model": model.sha256, "module": hashlib.sha256(str(model.module).encode()).hexdigest()}


def describe(subject: Any) -> dict[str, Any]:
    """Return an attack or a transform as JSON: its type and its settings.

    The type is the class's `id` where it has one, so that moving or renaming the class leaves the
    hash of its work as it is. Attacks and transforms among the settings are described in the same
    way, models by their fingerprint. A function, and an object that is no dataclass, has no
    settings that could be read: the hash of its code and values identifies it.
    """
    kind = type(subject)
    entry = {"type": _id(kind) or f"{kind.__module__}.{kind.__qualname__}", **_settings(subject)}
    return entry if _is_instance(subject) else {**entry, "code": _code(subject)}


def attack_id(attack: Any) -> str:
    """Return the name that seeds an attack's random numbers: "pgd", or "bpda(pgd)" if wrapped.

    This is the class's `id`, or the name of a class or a function that has none.
    """
    kind = type(attack)
    own = _id(kind) or getattr(attack, "__qualname__", kind.__qualname__)
    inner = getattr(attack, "attack", None)
    return own if inner is None else f"{own}({attack_id(inner)})"


def name(subject: Any) -> str:
    """Return an attack or transform with its settings: "ScaleShift(alpha=0.9, beta=0.05)".

    Models among the settings appear with their names and the first digits of their hashes, as do
    lambdas and objects that print an address.
    """
    if subject is None:
        return "none"
    if is_dataclass(subject):
        return _written(subject)
    own = getattr(subject, "__qualname__", None) or str(subject)
    if "<" not in own:
        return own
    return f"{own.partition(' at 0x')[0]} {_code(subject)[:8]}"


def _id(kind: type) -> str | None:
    # of the class itself: a subclass that computes something else must not share its work
    return vars(kind).get("id")


def _code(function: Any) -> str:
    """Return the hash of a callable as it was first seen: one may count its own calls."""
    try:
        return _first_seen(function)
    except TypeError:  # it cannot be looked up
        return callable_hash(function)


_first_seen = lru_cache(1000)(callable_hash)


def _settings(value: Any) -> dict[str, Any]:
    return {name: _plain(getattr(value, name)) for name in _named(value)}


def _named(value: Any) -> list[str]:
    """Return the fields of a dataclass that belong in its name."""
    every = fields(value) if _is_instance(value) else ()
    return [
        field.name
        for field in every
        if UNNAMED not in field.metadata or getattr(value, field.name) != field.default
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Classifier):
        return fingerprint(value)
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if _is_instance(value):
        return describe(value) if callable(value) else _settings(value)
    if isinstance(value, FunctionType) and not value.__module__.startswith("scotoma."):
        return {"function": value.__qualname__, "code": _code(value)}
    return getattr(value, "__qualname__", value)


def _written(value: Any) -> str:
    """Return the `repr` of a value, but short and without addresses in memory."""
    if isinstance(value, Classifier):
        return f"{value.name} {value.sha256[:8]}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_written, value))}{',' if len(value) == 1 else ''})"
    if _is_instance(value):
        settings = ", ".join(f"{name}={_written(getattr(value, name))}" for name in _named(value))
        return f"{type(value).__qualname__}({settings})"
    return getattr(value, "__qualname__", None) or repr(value)


def _is_instance(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type)
