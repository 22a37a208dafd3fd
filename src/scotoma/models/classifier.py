"""A model as the audit holds it: the module, its name, its hash, and what was noticed about it."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from scotoma.data.dataset import Dataset
from scotoma.models.error_summary import reason
from scotoma.utils.errors import InputError

PROBE_IMAGES = 32
DRAWS = 8
SAME_BATCH = 1e-4
"""Two runs of one batch differ by less than this share of the largest logit: rounding, in another order of sums."""
OTHER_BATCH = 1e-3
"""The same between batches of different sizes, which take other kernels."""


@dataclass(frozen=True)
class Classifier:
    """A module from images (n, c, h, w) in [0, 1] to logits (n, classes), in eval mode, its weights frozen.

    `notes` are sentences for the report: what a reader must know to believe the numbers.
    """

    module: nn.Module
    name: str
    sha256: str
    notes: tuple[str, ...] = ()
    card: dict = field(default_factory=dict)

    @classmethod
    def of(cls, module: nn.Module, name: str | None = None, card: dict | None = None) -> Classifier:
        """Freeze a module in place and hash its structure, its code and its weights."""
        name = name or type(module).__name__
        if any(is_lazy(value) for value in chain(module.parameters(), module.buffers())):
            raise InputError(
                f"model {name} has lazy layers without weights yet; run it once on an image, or give --weights"
            )
        freeze(module)
        digest = hashlib.sha256(str(module).encode())
        for line in _structure(module):
            digest.update(line.encode())
        for key, value in sorted({**dict(module.named_buffers()), **module.state_dict()}.items()):
            if isinstance(value, Tensor):
                digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(
                    value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
                )
        return cls(module, name, digest.hexdigest(), card=card or {})

    def checked(self, data: Dataset) -> Classifier:
        """This classifier after a look at its answers on a few test images of `data`.

        Probabilities are turned back into logits and a randomised model is replaced by the mean of repeated draws, each
        with a note that says so. Other notes: answers that depend on the other images in the batch, images that no gradient
        reaches, more outputs than classes. The global random state is left as it was.

        Raises:
            InputError: it cannot take these images or some size of batch, changes them in place, or its logits have the
                wrong shape or are not finite.
        """
        device = next(chain(self.module.parameters(), self.module.buffers()), torch.empty(0)).device
        images = data.test.images(torch.arange(min(PROBE_IMAGES, len(data.test)))).to(device)
        notes = list(self.notes)
        module = self.module
        with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
            torch.manual_seed(0)  # so that the numbers in the notes are the same each time
            logits = self._answer(images, data)
            spread = _difference(self._answer(images, data), logits)
            self._answer(images[:3], data)
            alone = torch.cat([self._answer(image[None], data) for image in images])
            gradient = self._gradient(images, data)
        largest = float(logits.abs().max().clamp(min=1e-6))
        if logits.shape[1] > len(data.classes):
            notes.append(
                f"The model tells {logits.shape[1]} classes apart, but {data.name} has {len(data.classes)}: class numbers must "
                "mean the same in both."
            )
        if (
            spread > SAME_BATCH * largest
        ):  # then `alone` differs too, which says nothing about the batch
            notes.append(
                f"The model is randomised: the same image gets different logits (they differ by up to {spread:.3g}). Attacks and "
                f"predictions use the mean of {DRAWS} draws."
            )
            module = MeanOfDraws(module, DRAWS)
        elif (shift := _difference(alone, logits)) > OTHER_BATCH * largest:
            notes.append(
                f"The answer for an image depends on the other images in its batch (logits differ by up to {shift:.3g} when it "
                "is alone), as with batch statistics in evaluation: no rate is then a property of the image."
            )
        if _are_probabilities(logits):
            notes.append(
                "The model returns probabilities, not logits: their logarithm is used, but where they are rounded to 0 or 1 "
                "gradients vanish and attacks look weaker than they are. Return logits instead."
            )
            module = LogProbabilities(module)
        if gradient is None or not bool(gradient.isfinite().all() and gradient.any()):
            kind = (
                "No gradient"
                if gradient is None
                else "A gradient of zeros"
                if gradient.isfinite().all()
                else "A gradient of NaN"
            )
            notes.append(
                f"{kind} reaches the images from the logits: attacks that follow gradients cannot see this model, and that they "
                "fail is no sign of robustness."
            )
        return Classifier(module, self.name, self.sha256, tuple(notes), self.card)

    def _answer(self, images: Tensor, data: Dataset) -> Tensor:
        given = images.clone()
        try:
            with torch.no_grad():
                logits = self.module(given)
        except Exception as error:  # the user's code may raise anything
            if self._wants_other_batch(images, reason(error)):
                raise InputError(
                    f"model {self.name} fails on a batch of {len(images)} ({reason(error)}); make it take any number of images: "
                    "torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))"
                ) from None
            shape = "x".join(map(str, data.shape))
            raise InputError(
                f"model {self.name} cannot take images of {shape} from {data.name}: {reason(error)}"
            ) from None
        if not torch.equal(given, images):
            raise InputError(
                f"model {self.name} changes the images that it is given; write x = x - 0.5, not x -= 0.5"
            )
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"model {self.name} returns {got} for {len(images)} images; want logits of shape ({len(images)}, classes)"
            )
        if not torch.isfinite(logits).all():
            raise InputError(
                f"model {self.name} returns NaN or infinite logits on {data.name}; check weights and scale"
            )
        if logits.shape[1] < len(data.classes):
            raise InputError(
                f"model {self.name} tells {logits.shape[1]} classes apart, but {data.name} has labels up to {len(data.classes) - 1}"
            )
        return logits.float()

    def _wants_other_batch(self, images: Tensor, why: str) -> bool:
        """Whether it failed on the number of images and not on the images."""
        if re.search(
            r"(size\(\)|shape)\[0\]", why
        ):  # an exported program's guard on its first dimension
            return True
        for size in {1, 2, 4, 8, 16, 32} - {len(images)}:
            with contextlib.suppress(Exception), torch.no_grad():
                self.module(images[:1].repeat(size, 1, 1, 1))
                return True
        return False

    def _gradient(self, images: Tensor, data: Dataset) -> Tensor | None:
        """Gradient of the largest logit by the images, None where there is none."""
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
    """Logits of a model that returns probabilities."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images).float().clamp_min(1e-30).log()


class MeanOfDraws(nn.Module):
    """Mean logits over repeated draws of a randomised model (expectation over transformation, Athalye et al. 2018)."""

    def __init__(self, module: nn.Module, draws: int):
        super().__init__()
        self.module = module
        self.draws = draws

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([self.module(images) for _ in range(self.draws)]).mean(0)


def freeze(module: nn.Module) -> None:
    """Eval mode and no weight gradients: attacks need gradients of images alone."""
    with contextlib.suppress(
        NotImplementedError
    ):  # an exported program keeps the mode that it was exported in
        module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def _difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())


def _are_probabilities(logits: Tensor) -> bool:
    rows = logits.sum(1)
    return bool(logits.min() >= 0) and torch.allclose(rows, torch.ones_like(rows), atol=1e-3)


def _structure(module: nn.Module) -> Iterator[str]:
    """What `str(module)` leaves out and yet decides the answer: plain settings, and the code of classes outside torch."""
    common = vars(nn.Module()).keys()
    kinds: dict[type, None] = {}
    for name, part in module.named_modules():
        settings = {
            key: value
            for key, value in vars(part).items()
            if key not in common and _is_plain(value)
        }
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
