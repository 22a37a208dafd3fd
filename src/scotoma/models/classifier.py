"""A model as audits use it: module, name, hash, and notes on its properties."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from scotoma.data.dataset import Dataset
from scotoma.data.input import InputSpec
from scotoma.models.error_summary import reason
from scotoma.utils.errors import InputError

PROBE_IMAGES = 32
DRAWS = 64
"""Fresh draws that decide what a randomised model's answer is."""
TIE = 1e-3
"""Weight of probabilities beside votes, less than that of one vote."""
TINY = 1e-6
"""Smallest share whose logarithm is taken."""
SAME_BATCH = 1e-4
"""Difference between runs of a batch that rounding explains, as a fraction of the largest logit."""
OTHER_BATCH = 1e-3
"""`SAME_BATCH` for batches of different sizes, which use other kernels."""


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

    >>> Classifier.of(nn.Linear(4, 2)).name
    'Linear'
    """

    module: nn.Module
    name: str
    sha256: str
    notes: tuple[str, ...] = ()
    card: dict = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    input: InputSpec | None = None

    @classmethod
    def of(cls, module: nn.Module, name: str | None = None, card: dict | None = None) -> Classifier:
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
        digest = hashlib.sha256(str(module).encode())
        for line in _structure(module):
            digest.update(line.encode())
        for key, value in sorted({**dict(module.named_buffers()), **module.state_dict()}.items()):
            if isinstance(value, Tensor):
                digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
                flat = value.detach().cpu().contiguous().flatten()
                digest.update(flat.view(torch.uint8).numpy().tobytes())
        return cls(module, name, digest.hexdigest(), card=card or {})

    def checked(self, data: Dataset) -> Classifier:
        """Check predictions on a few test images of `data`, and return the classifier with notes.

        Probabilities become logits, and a randomised model is marked as `Randomised`, each with a
        note. Other notes are on predictions that depend on the batch, on missing gradients, and on
        more outputs than classes. The global random state does not change.

        Raises:
            InputError: the model does not take these images or some size of batch, changes them in
                place, or returns logits of a wrong shape or that are not finite.
        """
        device = next(chain(self.module.parameters(), self.module.buffers()), torch.empty(0)).device
        images = data.test.images(torch.arange(min(PROBE_IMAGES, len(data.test)))).to(device)
        notes = list(self.notes)
        module = self.module
        with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
            torch.manual_seed(0)  # for reproducible numbers in the notes
            logits = self._answer(images, data)
            spread = _difference(self._answer(images, data), logits)
            self._answer(images[:3], data)
            alone = torch.cat([self._answer(image[None], data) for image in images])
            gradient = self._gradient(images, data)
        largest = float(logits.abs().max().clamp(min=1e-6))
        if logits.shape[1] > len(data.classes):
            notes.append(
                f"The model has {logits.shape[1]} outputs, but {data.name} has {len(data.classes)} "
                "classes: class numbers must mean the same in both."
            )
        # A randomised model differs in `alone` too, which shows nothing about the batch.
        if spread > SAME_BATCH * largest:
            notes.append(
                f"The model is randomised: logits of an image differ by up to {spread:.3g} between "
                f"runs. An image counts as classified correctly if more than half of {DRAWS} fresh "
                "draws are correct, and as fooled if more than half are wrong."
            )
            module = Randomised(module)
        elif (shift := _difference(alone, logits)) > OTHER_BATCH * largest:
            notes.append(
                "The prediction for an image depends on the other images in its batch (logits "
                f"change by up to {shift:.3g} if it is alone), as with batch statistics in "
                "evaluation: then no rate is a property of the image."
            )
        if _are_probabilities(logits):
            notes.append(
                "The model returns probabilities, not logits. Their logarithm is used, but "
                "gradients vanish where they are rounded to 0 or 1, and attacks appear weaker than "
                "they are. Return logits instead."
            )
            module = LogProbabilities(module)
        if gradient is None or not bool(gradient.isfinite().all() and gradient.any()):
            kind = "No gradient"
            if gradient is not None:
                kind = f"A gradient of {'zeros' if gradient.isfinite().all() else 'NaN'}"
            notes.append(
                f"{kind} reaches the images from the logits, so attacks by gradient fail on this "
                "model, which is no sign of robustness."
            )
        return replace(self, module=module, notes=tuple(notes))

    def _answer(self, images: Tensor, data: Dataset) -> Tensor:
        copy = images.clone()
        try:
            with torch.no_grad():
                logits = self.module(copy)
        except Exception as error:  # the user's code may raise anything
            if self._wants_other_batch(images, reason(error)):
                raise InputError(
                    f"model {self.name} fails on a batch of {len(images)} ({reason(error)}); "
                    "make it take any number of images: torch.export.export(model, (images,), "
                    "dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))"
                ) from None
            shape = "x".join(map(str, data.shape))
            raise InputError(
                f"model {self.name} cannot take images of {shape} from {data.name}: {reason(error)}"
            ) from None
        if not torch.equal(copy, images):
            raise InputError(
                f"model {self.name} changes its input in place; write x = x - 0.5, not x -= 0.5"
            )
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"model {self.name} returns {got} for {len(images)} images; "
                f"want logits of shape ({len(images)}, classes)"
            )
        if not torch.isfinite(logits).all():
            raise InputError(
                f"model {self.name} returns NaN or infinite logits on {data.name}; "
                "check weights and scale"
            )
        if logits.shape[1] < len(data.classes):
            raise InputError(
                f"model {self.name} has {logits.shape[1]} outputs, "
                f"but {data.name} has labels up to {len(data.classes) - 1}"
            )
        return logits.float()

    def _wants_other_batch(self, images: Tensor, why: str) -> bool:
        """Return whether the number of images made it fail, not the images."""
        # The guard of an exported program on its first dimension.
        if re.search(r"(size\(\)|shape)\[0\]", why):
            return True
        for size in {1, 2, 4, 8, 16, 32} - {len(images)}:
            with contextlib.suppress(Exception), torch.no_grad():
                self.module(images[:1].repeat(size, 1, 1, 1))
                return True
        return False

    def _gradient(self, images: Tensor, data: Dataset) -> Tensor | None:
        """Return the gradient of the largest logit by the images, or None."""
        leaf = images.clone().requires_grad_()
        try:
            with torch.enable_grad():
                logits = self.module(leaf)
                if not logits.requires_grad:
                    return None
                return torch.autograd.grad(logits.float().amax(1).sum(), leaf, allow_unused=True)[0]
        except Exception as error:
            raise InputError(
                f"model {self.name} has no gradient by images of {data.name}: {reason(error)}"
            ) from None


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


def is_randomised(model: nn.Module) -> bool:
    """Return whether `Classifier.checked` saw that the model's answers are random."""
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
        best = nn.functional.one_hot(logits.argmax(1), logits.shape[1])
        total, count = total + (1 - TIE) * best + TIE * logits.softmax(1), count + 1
    return (total / count).clamp_min(TINY).log()  # type: ignore[union-attr]


def freeze(module: nn.Module) -> None:
    """Set eval mode and remove weight gradients, since attacks need gradients by images only."""
    # An exported program keeps the mode of its export.
    with contextlib.suppress(NotImplementedError):
        module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def _difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())


def _are_probabilities(logits: Tensor) -> bool:
    rows = logits.sum(1)
    return bool(logits.min() >= 0) and torch.allclose(rows, torch.ones_like(rows), atol=1e-3)


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
            with contextlib.suppress(OSError, TypeError):  # a class typed at a prompt has no source
                yield inspect.getsource(kind)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
