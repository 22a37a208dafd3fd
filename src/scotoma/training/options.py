"""Hyper-parameters of recipes: by name, from the command line, and in a model's card."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from typing import Any

from scotoma.models.classifier import Classifier
from scotoma.threat import Threat
from scotoma.training import RECIPES
from scotoma.training.recipe import Recipe
from scotoma.utils.errors import InputError
from scotoma.utils.registry import nearest


def make(recipe: str, threat: Threat, options: dict[str, Any]) -> Recipe:
    """Return a recipe by its name. Raises `InputError` for an unknown option or a wrong value."""
    for name in options:
        known(recipe, name)
    made = RECIPES[recipe](threat, **options)
    check(made)
    return made


def check(recipe: Recipe) -> None:
    """Raise `InputError` for a hyper-parameter with which a recipe would not do what it says.

    >>> from scotoma.training.pgd import PGDTraining
    >>> check(PGDTraining(Threat("linf", 0.1), steps=0))
    Traceback (most recent call last):
    scotoma.utils.errors.InputError: steps=0: want a whole number above 0
    """
    for field in _fields(type(recipe)):
        _check(field.name, getattr(recipe, field.name))


def _check(name: str, value: Any) -> None:
    if not isinstance(value, int | float):
        return
    whole = isinstance(value, int)
    rules = (
        ("groups projections steps", whole and value >= 1, "a whole number above 0"),
        ("gamma step temperature", 0 < value < math.inf, "a number above 0"),
        ("alpha beta noise weight", 0 <= value < math.inf, "a number from 0"),
        ("reach share smoothing white", 0 <= value <= 1, "a number from 0 to 1"),
        ("lowest warmup", 0 < value <= 1, "a number above 0, at most 1"),
    )
    for names, right, wanted in rules:
        if name in names.split() and not right:
            raise InputError(f"{name}={value!r}: want {wanted}")


def parse(recipe: str, typed: Iterable[str]) -> dict[str, Any]:
    """Return options such as "steps=7" in the types of the recipe's defaults.

    Raises `InputError` for an unknown option or a wrong value.
    """
    options: dict[str, Any] = {}
    for each in typed:
        name, equals, text = each.partition("=")
        if not equals:
            raise InputError(f"option={each}: write it as NAME=VALUE, for example steps=10")
        default = known(recipe, name).default
        kind = type(default) if isinstance(default, int | float | str) else float
        try:
            options[name] = None if text == "none" and default is not MISSING else kind(text)
        except ValueError:
            raise InputError(
                f"option={each}: want {'a whole number' if kind is int else 'a number'}, as in "
                f"{name}={default}"
            ) from None
        _check(name, options[name])
    return options


def options_of(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's hyper-parameters as JSON, without the threat."""
    return {field.name: _plain(getattr(recipe, field.name)) for field in _fields(type(recipe))}


def known(recipe: str, option: str) -> Field[Any]:
    """Return an option of a recipe. Raises `InputError` with the nearest name if unknown."""
    options = {field.name: field for field in _fields(RECIPES[recipe])}
    if option not in options:
        hint = nearest(option, list(options)) if options else "it has none"
        raise InputError(f"recipe {recipe} has no option {option!r}; {hint}")
    return options[option]


def _plain(value: Any) -> Any:
    """Return a JSON value: models as name and hash, other objects as printed."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Classifier):
        return f"{value.name} {value.sha256[:16]}"
    return value if isinstance(value, int | float | str | None) else repr(value)


def _fields(kind: Any) -> list[Field[Any]]:
    return [field for field in fields(kind) if field.name != "threat"]
