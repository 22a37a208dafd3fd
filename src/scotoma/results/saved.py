"""Findings on disk, with their figures and images, so that a report can be drawn again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from scotoma.execution.store import read_json, write_json, write_whole
from scotoma.results.finding import Figure, Finding
from scotoma.utils.errors import InputError

FIGURES = {kind.__name__: kind for kind in get_args(Figure)}


def save_finding(folder: Path, finding: Finding) -> None:
    """Write a finding with its figures and images, so that the report can be drawn again."""
    images = {key: np.ascontiguousarray(array) for key, array in finding.images.items()}
    write_whole(folder / "findings" / f"{finding.probe}.safetensors", save(images))
    plain = asdict(replace(finding, images={}, figures=()))
    plain["figures"] = [{"kind": type(each).__name__, **asdict(each)} for each in finding.figures]
    write_json(folder / "findings" / f"{finding.probe}.json", plain)


def read_finding(folder: Path, probe: str) -> Finding:
    """Read a finding that `save_finding` wrote."""
    plain = read_json(folder / "findings" / f"{probe}.json")
    figures = tuple(FIGURES[figure.pop("kind")](**figure) for figure in plain.pop("figures"))
    path = folder / "findings" / f"{probe}.safetensors"
    try:
        images = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run the audit again") from None
    worst = plain.get("worst") and tuple(plain["worst"])
    drawn = {"figures": figures, "images": images, "notes": tuple(plain["notes"]), "worst": worst}
    return Finding(**plain | drawn)


def public(finding: Finding) -> dict[str, Any]:
    """Return the part of a finding that other tools read."""
    return {
        key: getattr(finding, key)
        for key in ("probe", "verdict", "rule", "headline", "numbers", "tables")
    }


def digest(entries: list[dict[str, Any]]) -> str:
    """Return a hash of `public` findings: two machines that agree print the same one."""
    text = json.dumps(entries, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
