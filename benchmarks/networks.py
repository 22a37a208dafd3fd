"""Networks to go through one by one, of `zoo/` or of a user."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import ZOO, in_zoo
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.threat import Threat
from scotoma.utils.errors import InputError

SLOW = ("abs", "binary-abs")
"""Architectures on which an attack takes an hour."""


@dataclass(frozen=True)
class Network:
    """A classifier with its data and the threat to attack it with.

    `apart` if its results do not count with those of the others.
    """

    name: str
    model: Classifier
    data: Dataset
    threat: Threat
    apart: bool = False


def in_card(card: dict[str, Any]) -> str:
    return card["threat"]


def networks(
    specs: str, root: Path | None, threat: Callable[[dict[str, Any]], str] = in_card
) -> Iterator[Network]:
    """Yield networks by commas: names in `zoo/`, or MODEL@DATA@THREAT, with @apart at the end.

    What has no data here is omitted. `threat` is that of a network of `zoo/`, by its card.
    """
    for spec in filter(None, specs.split(",")):
        model, *rest = spec.split("@")
        classifier = load_model(in_zoo(model))
        card = classifier.card or {}
        data, size, *apart = rest or (card["data"], threat(card))
        try:
            loaded = load_data(data, root)
        except InputError as error:
            print(f"{model} omitted: {error}")
            continue
        yield Network(classifier.name, classifier, loaded, Threat.parse(size), bool(apart))


def quick(data: str = "") -> str:
    """Return the classifiers of `zoo/` on these data sets or all, by commas; slow ones omitted."""
    names = []
    for path in sorted(ZOO.glob("*.safetensors")):
        card = load_model(str(path)).card or {}
        wanted = not data or card["data"] in data.split(",")
        if wanted and card["arch"] not in (*SLOW, "flow"):
            names.append(path.stem)
    return ",".join(names)
