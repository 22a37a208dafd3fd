"""A model as audits use it: module, name, hash, and notes on its properties."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from scotoma.data.dataset import Dataset, Sample
from scotoma.data.input import InputSpec
from scotoma.models.black_box import BlackBox, Function, settle
from scotoma.models.checking import PROBE_IMAGES, Gradient, answer, check
from scotoma.models.hashing import module_hash
from scotoma.models.modes import set_eval
from scotoma.utils.errors import InputError

DRAWS = 64
"""Fresh draws whose majority is the prediction of a randomised model."""
TIE = 1e-3
"""Weight of probabilities beside votes, less than that of one vote."""
SATURATED = 0.1
"""Share of the images without a gradient of cross-entropy that is worth a note."""
TINY = 1e-6
"""Smallest share whose logarithm is taken."""


@dataclass(frozen=True)
class Classifier:
    """A frozen module in eval mode, from images (n, c, h, w) in [0, 1] to logits (n, classes).

    Args:
        module: the module.
        name: its name in reports.
        sha256: hash of its structure, code and weights.
        notes: sentences for the report, without which its numbers would mislead.
        card: facts from its training, if known.
        classes: names of its outputs, in order, if its own configuration has them.
        input: size and preparation of images that its own configuration asks for, if it does.
        gradient: what `checked` saw of the gradient by the images: "yes", "missing", "zeros" or
            "NaN".
        saturated: share of the checked images on which the gradient of cross-entropy is 0, because
            their logits are too far apart.

    >>> import torch
    >>> model = Classifier.of(nn.Linear(4, 2))
    >>> model.name, model(torch.rand(3, 4)).shape
    ('Linear', torch.Size([3, 2]))
    """

    module: nn.Module
    name: str
    sha256: str
    notes: tuple[str, ...] = ()
    card: dict = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    input: InputSpec | None = None
    gradient: Gradient = "yes"
    saturated: float = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of the module, (n, classes)."""
        return self.module(images)

    @classmethod
    def of(
        cls,
        module: nn.Module,
        name: str | None = None,
        card: dict | None = None,
        *,
        classes: tuple[str, ...] | None = None,
        input: InputSpec | None = None,
    ) -> Classifier:
        """Freeze a module in place and hash its structure, code and weights.

        Raises:
            InputError: it has lazy layers without weights.
        """
        name = name or type(module).__name__
        if any(is_lazy(value) for value in chain(module.parameters(), module.buffers())):
            raise InputError(
                f"model {name} has lazy layers without weights yet; "
                "run it once on an image, or give weights=FILE"
            )
        freeze(module)
        return cls(module, name, module_hash(module), card=card or {}, classes=classes, input=input)

    def checked(self, data: Dataset) -> Classifier:
        """Check predictions on a few test images of `data`, and return the classifier with notes.

        Probabilities become logits, and a randomised model is marked as `Randomised`, each with a
        note. Other notes are on predictions that depend on the batch, on missing gradients, and on
        more outputs than classes. For a black box the range of pixels and the kind of outputs are
        inferred if they are not given. The global random state does not change.

        Raises:
            InputError: the model does not take these images or some size of batch, changes them in
                place, or returns logits of a wrong shape or that are not finite; or a black box
                does not show which pixels it takes.
        """
        module, notes = self.module, list(self.notes)
        if isinstance(module, Function):
            images, labels = Sample(data.test, PROBE_IMAGES).read()
            answer(module, self.name, images, data)
            module, more = settle(module, self.name, images, labels)
            notes += more
        checks = check(module, self.name, data)
        if checks.logits.shape[1] > len(data.classes):
            notes.append(
                f"The model has {checks.logits.shape[1]} outputs, but {data.name} has "
                f"{data.counted}: class numbers must mean the same in both."
            )
        probabilities = checks.probabilities
        if isinstance(module, Function):
            probabilities = module.outputs == "probabilities"
            if checks.gradient == "missing":
                module = module.without_gradient()
        black_box = isinstance(module, BlackBox)
        if checks.randomised:
            notes.append(
                f"The model is randomised: logits of an image differ by up to {checks.spread:.3g} "
                "between runs. An image counts as classified correctly if more than half of "
                f"{DRAWS} fresh draws are correct, and as fooled if more than half are wrong."
            )
            module = Randomised(module)
        elif checks.batched:
            notes.append(
                "The prediction for an image depends on the other images in its batch (logits "
                f"change by up to {checks.shift:.3g} if it is alone), as with batch statistics in "
                "evaluation: then no rate is a property of the image."
            )
        if probabilities:
            notes.append(
                "The model returns probabilities, not logits. Their logarithm is used, but "
                "gradients vanish where they are rounded to 0 or 1, and attacks appear weaker than "
                "they are. Return logits instead."
            )
            module = LogProbabilities(module)
        elif checks.bounded and not black_box:
            notes.append(
                "All outputs lie between 0 and 1, as after a sigmoid, which rounds large logits to "
                "1: then classes tie, which counts as no success, and attacks appear weaker than "
                "they are. Return what enters the sigmoid instead."
            )
        if black_box:
            notes.append(
                "The model is a black box without gradients: attacks estimate them from its "
                "answers, or go by its decisions alone."
            )
        elif checks.gradient != "yes":
            missing = checks.gradient == "missing"
            kind = "No gradient" if missing else f"A gradient of {checks.gradient}"
            notes.append(
                f"{kind} reaches the images from the logits, so attacks by gradient fail on this "
                "model, which is no sign of robustness."
            )
        if checks.saturated > SATURATED:
            notes.append(
                f"Logits lie so far apart that the gradient of cross-entropy is 0 on "
                f"{checks.saturated:.0%} of the first images. Attacks that follow cross-entropy "
                "fail there, which is no sign of robustness; `strong` follows margins."
            )
        return replace(
            self,
            module=module,
            notes=tuple(notes),
            gradient=checks.gradient,
            saturated=checks.saturated,
        )


class LogProbabilities(nn.Module):
    """Turns the probabilities of a model into logits."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images).float().clamp_min(1e-30).log()


class Randomised(nn.Module):
    """A model whose answers are random: each call is one draw, and `votes` is its answer.

    The mean of several draws would be another model than the one that is used.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images)


def own_module(model: nn.Module) -> nn.Module:
    """Return the user's own module, without `LogProbabilities` and `Randomised` around it."""
    while isinstance(model, LogProbabilities | Randomised):
        model = model.module
    return model


def is_randomised(model: nn.Module) -> bool:
    """Return whether `Classifier.checked` marked the model as randomised."""
    while isinstance(model, LogProbabilities):
        model = model.module
    return isinstance(model, Randomised)


def votes(draws: Iterable[Tensor]) -> Tensor:
    """Return the logarithm of the share of draws for each class, (n, classes).

    Args:
        draws: the logits (n, classes) of each draw; their probabilities break ties.
    """
    total, count = 0.0, 0
    for logits in draws:
        vote = nn.functional.one_hot(logits.argmax(1), logits.shape[1])
        total, count = total + (1 - TIE) * vote + TIE * logits.softmax(1), count + 1
    return (total / count).clamp_min(TINY).log()  # type: ignore[union-attr]


def freeze(module: nn.Module) -> None:
    """Set eval mode and remove weight gradients, since attacks need gradients by images only."""
    set_eval(module)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
