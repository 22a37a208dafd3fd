"""What a model does with a few images: shapes, randomness, its batch, probabilities, gradients."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn

from scotoma.data.dataset import Dataset
from scotoma.models.black_box import Function, kind_of_outputs
from scotoma.utils.errors import InputError, reason
from scotoma.utils.logits import magnitude
from scotoma.utils.random import own_numbers

PROBE_IMAGES = 32
SAME_BATCH = 1e-4
"""Difference between runs of a batch that rounding explains, as a fraction of the largest logit."""
OTHER_BATCH = 1e-3
"""`SAME_BATCH` for batches of different sizes, which use other kernels."""

BESIDE = 1e-3
"""Change of a pixel, a quarter of a level of 8 bits."""
LARGEST = 1e15
"""Logit beyond which lengths of gradients, whose squares are summed, overflow float32."""
UNDERFLOW = 80.0
"""Distance of the largest logit to the others beyond which their softmax is 0 in float32, and with
it the gradient of cross-entropy."""

TWO_LOGITS = "where one logit z decides between two classes, return torch.{}"
"""How one output becomes one a class, with the call."""

Gradient = Literal["yes", "missing", "zeros", "NaN"]


@dataclass(frozen=True)
class Checks:
    """Measurements on a few test images.

    Args:
        logits: what the model returns (n, classes).
        spread: largest difference of an image's logits between two passes, also of images that
            lie between the levels of stored ones.
        shift: largest difference between an image's logits in the batch and alone.
        gradient: the gradient of the largest logit by the images.
    """

    logits: Tensor
    spread: float
    shift: float
    gradient: Gradient

    @property
    def randomised(self) -> bool:
        """Whether the same images have other logits in another pass."""
        return self.spread > SAME_BATCH * self._largest

    @property
    def batched(self) -> bool:
        """Whether logits depend on the batch; False for a randomised model, which hides it."""
        return not self.randomised and self.shift > OTHER_BATCH * self._largest

    @property
    def probabilities(self) -> bool:
        """Whether the model returns probabilities."""
        return kind_of_outputs(self.logits) == "probabilities"

    @property
    def bounded(self) -> bool:
        """Whether all outputs lie in [0, 1] and are no probabilities."""
        return kind_of_outputs(self.logits) is None

    @property
    def saturated(self) -> float:
        """Share of the images on which the gradient of cross-entropy is 0."""
        first, second = self.logits.topk(min(2, self.logits.shape[1]), dim=1).values.T[[0, -1]]
        return float((first - second > UNDERFLOW).float().mean())

    @property
    def _largest(self) -> float:
        return float(magnitude(self.logits).max().clamp(min=1e-6))


def check(module: nn.Module, name: str, data: Dataset) -> Checks:
    """Evaluate a model on the first test images. The global random state does not change.

    Args:
        module: the model, in eval mode.
        name: its name, for messages.
        data: where the images come from.

    Raises:
        InputError: the model does not take these images or some size of batch, changes them in
            place, or returns logits of a wrong shape or that are not finite.

    >>> from scotoma.data import load_data
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> check(model, "mine", load_data("digits")).gradient
    'yes'
    """
    images = data.test.images(torch.arange(min(PROBE_IMAGES, len(data.test)))).to(device(module))
    with own_numbers(0):  # for reproducible numbers in the notes
        logits = answer(module, name, images, data)
        repeated = answer(module, name, images, data)
        spread = _difference(repeated, logits)
        if repeated.data_ptr() == logits.data_ptr():
            _refuse_reuse(module, name, images, data, logits)
        answer(module, name, images[:3], data)
        alone = torch.cat([answer(module, name, image[None], data) for image in images])
        gradient = _gradient(module, name, images, data)
        spread = max(spread, _spread_beside(module, images))
    return Checks(logits, spread, _difference(alone, logits), gradient)


def device(module: nn.Module) -> torch.device:
    """Return where a module's first parameter or buffer is; the CPU if it has none."""
    return next(chain(module.parameters(), module.buffers()), torch.empty(0)).device


def answer(module: nn.Module, name: str, images: Tensor, data: Dataset) -> Tensor:
    """Return the logits of images of `data`, float32 (n, classes); see `check` for the errors."""
    copy = images.clone()
    try:
        with torch.no_grad():
            logits = module(copy)
    except Exception as error:  # the user's code may raise anything
        if _wants_other_batch(module, images, reason(error)):
            raise InputError(
                f"model {name} fails on a batch of {len(images)} ({reason(error)}); "
                "make it take any number of images: torch.export.export(model, (images,), "
                "dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))"
            ) from None
        shape = "x".join(map(str, data.shape))
        other = {each.dtype for each in module.parameters()} - {torch.float32}
        hint = f"; its weights are {min(map(str, other))[6:]}, model.float() helps" if other else ""
        raise InputError(
            f"model {name} cannot take images of {shape} from {data.name}: {reason(error)}{hint}"
        ) from None
    if not torch.equal(copy, images):
        raise InputError(
            f"model {name} changes its input in place; write x = x - 0.5, not x -= 0.5"
        )
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        returned = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        flat = isinstance(logits, Tensor) and logits.shape == (len(images),)
        hint = "; " + TWO_LOGITS.format("stack([0 * z, z], 1)") if flat else ""
        raise InputError(
            f"model {name} returns {returned} for {len(images)} images; "
            f"want logits of shape ({len(images)}, classes){hint}"
        )
    if not torch.isfinite(logits).all():
        raise InputError(
            f"model {name} returns NaN or infinite logits on {data.name}; check weights and scale"
        )
    if (outputs := logits.shape[1]) < max(2, len(data.classes)):
        hint = f"; {TWO_LOGITS.format('cat([0 * z, z], 1)')}" if outputs == 1 else ""
        raise InputError(
            f"model {name} has {outputs} output{'s' * (outputs != 1)}, but {data.name} has labels "
            f"up to {len(data.classes) - 1}; want one output a class{hint}"
        )
    if (largest := float(magnitude(logits.float()).max())) > LARGEST:
        raise InputError(
            f"model {name} returns logits up to {largest:.3g}, with which gradients overflow; "
            "divide them by a constant, which changes no prediction"
        )
    return logits.float()


@torch.no_grad()
def _spread_beside(module: nn.Module, images: Tensor) -> float:
    """Return the difference of two passes on images that no file holds, as those of attacks are.

    Logits that are not finite do not count.
    """
    beside = (images + BESIDE * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
    try:
        first, second = (module(beside.clone()).float() for _ in range(2))
    except Exception:  # the user's code may refuse such images, and attacks will say so
        return 0.0
    return float((first - second).abs().nan_to_num(0, 0, 0).max())


def _refuse_reuse(
    module: nn.Module, name: str, images: Tensor, data: Dataset, logits: Tensor
) -> None:
    """Raise `InputError` if other images change the logits that the model returned before."""
    before = logits.clone()
    answer(module, name, 1 - images, data)
    if not torch.equal(before, logits):
        raise InputError(
            f"model {name} returns the same memory from every call, so that later logits replace "
            "earlier ones; return logits.clone()"
        )


def _wants_other_batch(module: nn.Module, images: Tensor, message: str) -> bool:
    """Return whether the number of images made it fail, not the images."""
    # The guard of an exported program on its first dimension.
    if re.search(r"(size\(\)|shape)\[0\]", message):
        return True
    for size in {1, 2, 4, 8, 16, 32} - {len(images)}:
        with contextlib.suppress(Exception), torch.no_grad():
            module(images[:1].repeat(size, 1, 1, 1))
            return True
    return False


def _gradient(module: nn.Module, name: str, images: Tensor, data: Dataset) -> Gradient:
    leaf = images.clone().requires_grad_()
    try:
        with torch.enable_grad():
            logits = module(leaf)
            if not logits.requires_grad:
                return "missing"
            total = logits.float().amax(1).sum()
            gradient = torch.autograd.grad(total, leaf, allow_unused=True)[0]
    except Exception as error:
        if isinstance(module, Function):  # a callable that leaves torch, as by x.numpy()
            return "missing"
        raise InputError(
            f"model {name} has no gradient by images of {data.name}: {reason(error)}"
        ) from None
    if gradient is None:
        return "missing"
    if not gradient.isfinite().all():
        return "NaN"
    return "yes" if gradient.any() else "zeros"


def _difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())
