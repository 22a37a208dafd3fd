"""Class numbers of training data and models from elsewhere, matched to those of the test data."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace

import torch
from torch import Tensor

from scotoma.data.dataset import Dataset, Split
from scotoma.utils.errors import InputError
from scotoma.utils.registry import nearest

NAMED = 5
"""Classes that an error names."""


class Colour:
    """Grey images with three equal channels."""

    def __init__(self, split: Split):
        self.split, self.labels = split, split.labels
        self.shape = (3, *split.shape[1:])
        self.recipe = getattr(split, "recipe", None)

    def __len__(self) -> int:
        return len(self.split)

    def images(self, indices: Tensor) -> Tensor:
        return self.split.images(indices).repeat(1, 3, 1, 1)


def in_colour(data: Dataset, note: str | None = None) -> Dataset:
    """Return grey images with three equal channels each; `note` says why."""
    return replace(
        data,
        test=Colour(data.test),
        train=None if data.train is None else Colour(data.train),
        sha256=_hash(data.sha256, "colour"),
        notes=(*data.notes, *([note] if note else [])),
    )


def with_train(data: Dataset, other: Dataset) -> Dataset:
    """Return the test images of `data` with the training images of `other`.

    The training images are those of its training split, or all where it has no other. If both name
    their classes, names are matched, also if the names are numbers; else class numbers mean the
    same in both. Notes on how the training images were read are kept.

    Raises:
        InputError: images have another size, or classes other names.
    """
    source = other if other.train is None else replace(other, test=other.train, train=None)
    if has_names(source) or has_names(data):
        source = matched(source, data.classes, f"data {data.name}")
    else:
        data, source = _by_equal_numbers(data, source)
    if source.shape[0] == 1 and data.shape[0] == 3:
        source = in_colour(source)
    if source.shape != data.shape:
        raise InputError(
            f"train={other.name}: its images are {shape_name(source)}, those of {data.name} are "
            f"{shape_name(data)}; give size=N for both"
        )
    sha256 = _hash(data.sha256, source.sha256)
    notes = tuple(dict.fromkeys((*data.notes, *source.notes)))
    return replace(data, train=source.test, sha256=sha256, notes=notes)


def _by_equal_numbers(data: Dataset, source: Dataset) -> tuple[Dataset, Dataset]:
    """Return test and training data whose classes are named by numbers, numbered alike.

    Folders 22 and 99 are classes 0 and 1, but 0 and 2 beside a folder 243, in alphabetical order.
    """
    if all(each.classes == tuple(map(str, range(len(each.classes)))) for each in (data, source)):
        classes = max(data.classes, source.classes, key=len)
        return replace(data, classes=classes), replace(source, classes=classes)
    if data.classes == source.classes:
        return data, source
    label_of = {name: label for label, name in enumerate(data.classes)}
    labels = [label_of.get(name) for name in source.classes]
    unknown = [i for i in torch.unique(source.test.labels).tolist() if labels[i] is None]
    if unknown:
        raise InputError(
            f"train={source.name}: has a class {source.classes[unknown[0]]}, and {data.name} has "
            f"{', '.join(data.classes[:NAMED])}{', ...' * (len(data.classes) > NAMED)}; rename or "
            "remove it"
        )
    mapping = torch.tensor([-1 if label is None else label for label in labels])
    note = f"Training images of {source.name} have the classes of {data.name} by their numbers."
    return data, _renumbered(source, mapping, data.classes, note)


def shape_name(data: Dataset) -> str:
    """Return the size of images for a sentence: "3x224x224"."""
    return "x".join(map(str, data.shape))


def has_names(data: Dataset) -> bool:
    """Return whether the classes have names, and not only numbers."""
    return not all(name.isdecimal() for name in data.classes)


def matched(data: Dataset, outputs: tuple[str, ...], model: str) -> Dataset:
    """Return the data with classes numbered as the outputs of a model.

    A name fits if it is the same without regard to case, or one of the synonyms between the commas
    of the model's name ("tench" for "tench, Tinca tinca"). If no class of the data has a name that
    fits, class numbers are taken to mean the same in both. A note says which of the two was done.

    Args:
        data: the data.
        outputs: names of the outputs.
        model: the model as the note calls it.

    Raises:
        InputError: some classes have names that fit, and others have none; or two have one.
    """
    if data.classes == outputs:
        return data
    if not has_names(data) or not any(map(_says_something, outputs)):
        return by_number(data, len(outputs), model)
    output_of = _names(outputs)
    labels = [output_of.get(_plain(name)) for name in data.classes]
    used = set(torch.unique(data.test.labels).tolist())
    used |= set() if data.train is None else set(torch.unique(data.train.labels).tolist())
    unknown = [data.classes[i] for i in sorted(used) if labels[i] is None]
    if len(unknown) == len(used):
        note = (
            f"No class of {data.name} has a name that {model} knows ({data.classes[0]!r}, where "
            f"output 0 is {outputs[0]!r}): class numbers are taken to mean the same in both."
        )
        return replace(data, notes=(*data.notes, note))
    if unknown:
        hint = nearest(unknown[0], list(outputs)[:1000])
        hint = hint if hint.startswith("did you") else "rename or remove them"
        raise InputError(
            f"data {data.name}: {model} knows {len(used) - len(unknown)} of its {len(used)} "
            f"classes by name, but not {unknown[0]!r}; {hint}"
        )
    goals = [label for i in sorted(used) if (label := labels[i]) is not None]
    if len(set(goals)) < len(goals):
        twice = next(label for label in goals if goals.count(label) > 1)
        raise InputError(
            f"data {data.name}: several of its classes fit the output {outputs[twice]!r} of "
            f"{model}; rename them"
        )
    note = (
        f"Classes are matched by name: {len(used)} classes of {data.name} are among the "
        f"{len(outputs)} outputs of {model}."
    )
    mapping = torch.tensor([-1 if label is None else label for label in labels])
    return _renumbered(data, mapping, outputs, note)


def by_number(data: Dataset, outputs: int, model: str) -> Dataset:
    """Return the data, labelled by its class names if these can only be numbers of outputs.

    Folders 22, 99 and 243 are classes 0, 1 and 2 in alphabetical order. A model with more outputs
    than the data has classes means the numbers themselves.
    """
    numbers = [int(name) if name.isdecimal() else -1 for name in data.classes]
    natural = numbers == list(range(len(numbers)))
    if natural or min(numbers) < 0 or len(numbers) >= outputs or max(numbers) >= outputs:
        return data
    note = (
        f"The names of the classes of {data.name} are taken as numbers of outputs of {model} "
        f"({data.classes[0]} to {data.classes[-1]})."
    )
    classes = tuple(map(str, range(outputs)))
    return _renumbered(data, torch.tensor(numbers), classes, note)


def _renumbered(data: Dataset, mapping: Tensor, classes: tuple[str, ...], note: str) -> Dataset:
    """Return data with the label `mapping[l]` for each label l."""

    def relabelled(split: Split) -> Split:
        copied = copy.copy(split)
        copied.labels = mapping[split.labels]
        return copied

    unchanged = torch.equal(mapping, torch.arange(len(mapping)))
    sha256 = data.sha256 if unchanged else _hash(data.sha256, str(mapping.tolist()))
    train = None if data.train is None else relabelled(data.train)
    return replace(
        data,
        test=relabelled(data.test),
        train=train,
        classes=classes,
        sha256=sha256,
        notes=(*data.notes, note),
    )


def _names(outputs: tuple[str, ...]) -> dict[str, int]:
    """Return the output of each name and of each synonym that only one output has."""
    output_of: dict[str, int] = {}
    shared: set[str] = set()
    for label, name in enumerate(outputs):
        for synonym in {_plain(each) for each in name.split(",")}:
            shared |= {synonym} & output_of.keys()
            output_of.setdefault(synonym, label)
    full_names = {_plain(name): label for label, name in enumerate(outputs)}
    return {name: label for name, label in output_of.items() if name not in shared} | full_names


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _says_something(name: str) -> bool:
    return not name.isdecimal() and not name.startswith("LABEL_")


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
