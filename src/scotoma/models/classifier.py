"""A model as the audit holds it: the module, its name, its hash, and what was noticed about it."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from scotoma.data.dataset import Dataset
from scotoma.errors import InputError

PROBE_IMAGES = 32
DRAWS = 8


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
        """Freeze a module in place and hash its structure and weights."""
        digest = hashlib.sha256(str(module).encode())
        for key, value in sorted(module.state_dict().items()):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        freeze(module)
        return cls(module, name or type(module).__name__, digest.hexdigest(), card=card or {})

    def checked(self, data: Dataset) -> Classifier:
        """This classifier after a look at its answers on a few test images of `data`.

        Probabilities are turned back into logits and a randomised model is replaced by the mean of repeated draws, each
        with a note that says so.

        Raises:
            InputError: it cannot take these images, or its logits have the wrong shape or are not finite.
        """
        images = data.test.images(torch.arange(min(PROBE_IMAGES, len(data.test))))
        logits = self._answer(images, data)
        notes = list(self.notes)
        module = self.module
        rows = logits.sum(1)
        if logits.min() >= 0 and torch.allclose(rows, torch.ones_like(rows), atol=1e-3):
            notes.append(
                "The model returns probabilities, not logits: their logarithm is used, but where they are rounded to 0 or 1 "
                "gradients vanish and attacks look weaker than they are. Return logits instead."
            )
            module = LogProbabilities(module)
        spread = float((self._answer(images, data) - logits).abs().max())
        if spread > 1e-4 * float(logits.abs().max().clamp(min=1e-6)):
            notes.append(
                f"The model is randomised: the same image gets different logits (they differ by up to {spread:.3g}). Attacks and "
                f"predictions use the mean of {DRAWS} draws."
            )
            module = MeanOfDraws(module, DRAWS)
        return Classifier(module, self.name, self.sha256, tuple(notes), self.card)

    def _answer(self, images: Tensor, data: Dataset) -> Tensor:
        try:
            with torch.no_grad():
                logits = self.module(images)
        except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
            reason = str(error).strip().partition("\n")[0]
            shape = "x".join(map(str, data.shape))
            raise InputError(f"model {self.name} cannot take images of {shape} from {data.name}: {reason}") from None
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"model {self.name} returns {got} for {len(images)} images; want logits of shape ({len(images)}, classes)"
            )
        if not torch.isfinite(logits).all():
            raise InputError(f"model {self.name} returns NaN or infinite logits on {data.name}; check weights and scale")
        if logits.shape[1] < len(data.classes):
            raise InputError(
                f"model {self.name} tells {logits.shape[1]} classes apart, but {data.name} has labels up to {len(data.classes) - 1}"
            )
        return logits.float()


class LogProbabilities(nn.Module):
    """Logits of a model that returns probabilities."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images).clamp_min(1e-30).log()


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
    with contextlib.suppress(NotImplementedError):  # an exported program keeps the mode that it was exported in
        module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
