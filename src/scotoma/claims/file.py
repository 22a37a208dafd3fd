"""A claim as a file: what is claimed, how it is audited, and the rules of the gate."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from scotoma.claim import MARGIN, Stated
from scotoma.claims.request import Request
from scotoma.claims.rules import Rule, parse
from scotoma.claims.taken import check_taken
from scotoma.claims.thresholds import of_probe, read_thresholds
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.registry import nearest

SHARE = (int, float)
KEYS: Mapping[str, Mapping[str, Any]] = {
    "model": {
        "source": str,
        "weights": str,
        "trust_pickle": bool,
        "range": str,
        "outputs": str,
    },
    "data": {
        "source": str,
        "root": str,
        "train": str,
        "size": (int, str),
        "resize": int,
        "crop": int,
        "interpolation": str,
        "on_error": str,
    },
    "claim": {
        "threat": str,
        "clean_accuracy": SHARE,
        "robust_accuracy": SHARE,
        "also": dict,
        "margin": SHARE,
        "source": str,
        "survives": list,
    },
    "audit": {
        "probes": list,
        "attack": str,
        "layer": str,
        "extractor": str,
        "sources": list,
        "bounds": list,
        "reference": str,
        "generator": str,
        "limit": int,
        "precision": SHARE,
        "sampling": str,
        "seed": int,
        "budget": str,
        "thorough": bool,
        "keep": str,
        "force": bool,
        "out": str,
    },
    "gate": {"rules": list, "baseline": str},
}
"""Sections of a claim file, their keys, and the types of the values; `thresholds` has a table for
each probe (`claims.thresholds`)."""
TYPES = {str: "text", bool: "true or false", list: "a list of texts", int: "a whole number"}
TYPES |= {
    SHARE: "a number",
    (int, str): "a number of pixels, or HEIGHTxWIDTH",
    dict: "a table of threat = accuracy",
}

RENAMED = {
    "model.source": "model",
    "model.range": "value_range",
    "data.source": "data",
    "data.root": "data_root",
}
"""Fields of a request that have another name than their key in the sections model, data, audit."""
BESIDE = {
    *("model", "data", "weights", "data_root", "train", "size"),
    *("extractor", "reference", "generator", "sources"),
}
"""Fields that may name files, which are looked up beside the claim first."""
PATHS = {"weights", "data_root", "out"}


@dataclass(frozen=True)
class ClaimFile:
    """A claim file as read.

    Args:
        request: the audit.
        rules: rules of the gate.
        baseline: run folder of the audit that `drop_against_baseline` compares with.
        keys: the fields of the request that the file sets, with the key that sets each.
    """

    request: Request
    rules: tuple[Rule, ...] = ()
    baseline: Path | None = None
    keys: Mapping[str, str] = field(default_factory=dict)

    def with_flags(self, path: str, flags: Mapping[str, Any]) -> Request:
        """Return the request with the options of a command line.

        Raises:
            InputError: an option contradicts the file.
        """
        for name, value in flags.items():
            setting = getattr(self.request, name)
            if name in self.keys and setting != value:
                option = f"--{name.replace('_', '-')}"
                raise InputError(
                    f"{option} {_text(value)} contradicts {path}, where {self.keys[name]} is "
                    f"{_text(setting)}; leave one of them out"
                )
        return replace(self.request, **flags)


def read_claim(path: Path) -> ClaimFile:
    """Read a claim file. Files that it names are sought beside it, then in the working folder.

    Raises:
        InputError: the file is missing, is no TOML, has an unknown key or a value of a wrong type
            or range. The message names the file and the key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file ({error})") from None
    try:
        return _claim(content, path.parent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _claim(content: dict[str, Any], folder: Path) -> ClaimFile:
    thresholds = read_thresholds(content.pop("thresholds", {}))
    flat = _checked(content)
    for required in ("model.source", "data.source", "claim.threat"):
        if required not in flat:
            section, _, key = required.partition(".")
            raise InputError(f"[{section}] wants a key {key}")

    also = flat.get("claim.also", {})
    for name, share in also.items():
        if not isinstance(share, SHARE) or isinstance(share, bool):
            raise InputError(f"claim.also: {name!r} = {share!r}; want a number")
    stated = Stated(
        flat.get("claim.clean_accuracy"),
        flat.get("claim.robust_accuracy"),
        tuple((Threat.parse(name), float(share)) for name, share in also.items()),
        flat.get("claim.margin", MARGIN),
        flat.get("claim.source", ""),
    )
    settings: dict[str, Any] = {
        "threat": Threat.parse(flat["claim.threat"]),
        "stated": stated,
        "thresholds": thresholds,
        "survives": tuple(flat.get("claim.survives", ())),
    }
    keys = {"threat": "claim.threat"}
    for section in ("model", "data", "audit"):
        for key in content.get(section, {}):
            name, value = _field(section, key), flat[f"{section}.{key}"]
            if isinstance(value, list):
                value = tuple(beside(folder, each) if name in BESIDE else each for each in value)
            elif name in BESIDE:
                value = beside(folder, str(value))
            settings[name] = Path(str(value)) if name in PATHS else value
            keys[name] = f"{section}.{key}"
    if flat.get("audit.probes") == []:
        raise InputError("audit.probes is empty; name probes, or leave the key out for all of them")
    request = Request(**settings)
    check_taken(request, {name: f"{key} " for name, key in keys.items()})
    rules = tuple(parse(text) for text in flat.get("gate.rules", ()))
    baseline = beside(folder, flat.get("gate.baseline", ""))
    return ClaimFile(request, rules, Path(baseline) if baseline else None, keys)


def _field(section: str, key: str) -> str:
    return RENAMED.get(f"{section}.{key}", key)


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    """Return the values by "section.key"; every section and key is known and of its type."""
    flat = {}
    for section, values in content.items():
        if section not in KEYS:
            hint = nearest(section, [*KEYS, "thresholds"])
            raise InputError(f"unknown section [{section}]; {hint}")
        if not isinstance(values, dict):
            raise InputError(f"{section} is a section: write [{section}] above its keys")
        for key, value in values.items():
            if key not in KEYS[section]:
                hint = nearest(key, list(KEYS[section]))
                raise InputError(f"unknown key {key!r} in [{section}]; {hint}")
            kind = KEYS[section][key]
            if not _fits(value, kind):
                raise InputError(f"{section}.{key} is {value!r}; want {TYPES[kind]}")
            flat[f"{section}.{key}"] = value
    return flat


def _fits(value: object, kind: type | tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, list):
        return kind is list and all(isinstance(each, str) for each in value)
    return isinstance(value, kind)


def beside(folder: Path, text: str) -> str:
    """Return a model, data set or path whose files are looked up beside the claim first.

    >>> beside(Path("/nowhere"), "folder:images")
    'folder:images'
    """
    parts = text.split(":")
    return ":".join(
        str(folder / part) if part and (folder / part).exists() else part for part in parts
    )


def as_toml(request: Request, rules: tuple[Rule, ...] = ()) -> str:
    """Return a claim file that asks for the same audit.

    >>> print(as_toml(Request("m.safetensors", "digits", Threat("linf", 0.1), limit=50)))
    [model]
    source = "m.safetensors"
    <BLANKLINE>
    [data]
    source = "digits"
    <BLANKLINE>
    [claim]
    threat = "linf:0.1"
    <BLANKLINE>
    [audit]
    limit = 50
    attack = "strong"
    seed = 0
    keep = "examples"
    out = "runs/audit"
    <BLANKLINE>
    """
    stated = request.stated
    has_numbers = stated != Stated()
    sections: dict[str, dict[str, Any]] = {
        **{
            section: {key: getattr(request, _field(section, key)) for key in KEYS[section]}
            for section in ("model", "data")
        },
        "claim": {
            "threat": request.threat,
            "clean_accuracy": stated.clean,
            "robust_accuracy": stated.robust,
            "margin": stated.margin if has_numbers else None,
            "source": stated.source or None,
            "survives": request.survives,
        },
        "claim.also": {str(threat): share for threat, share in stated.also},
        "audit": {
            key: getattr(request, key)
            for key in sorted(KEYS["audit"], key=lambda key: key in DEFAULTED)
        },
        **{
            f"thresholds.{probe}": of_probe(request.thresholds, probe)
            for probe, _, _ in request.thresholds
        },
        "gate": {"rules": [str(rule) for rule in rules]},
    }
    blocks = []
    for section, values in sections.items():
        lines = [
            f"{_key(key)} = {_value(value)}"
            for key, value in values.items()
            if value is not False and value not in OMITTED
        ]
        if lines:
            blocks.append("\n".join([f"[{section}]", *lines, ""]))
    return "\n".join(blocks)


DEFAULTED = {each.name for each in fields(Request) if each.default not in (None, ())}
"""Fields with a default other than nothing, which a written claim names last."""
OMITTED = (None, (), [], "refuse")
"""Values that a written claim omits, like False: the defaults."""


def _key(key: str) -> str:
    return key if key.replace("_", "").isalnum() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False)


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)
