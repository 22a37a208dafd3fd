"""The bases of all attacks: settings that are checked when made, and a call on a batch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from numbers import Integral, Real
from typing import Any, ClassVar

from torch import Tensor, nn

from scotoma.attacks.core.calling import checked, prepared
from scotoma.models.classifier import Classifier
from scotoma.threat import NORMS, Threat
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

UNNAMED = "unnamed"
"""Metadata of a field that names and hashes omit at its default: records are older than it."""

FROM_ZERO = "from zero"
"""Metadata of a field that may be 0, though its default is not."""


def share_of_passes() -> Any:
    """Return the field `share` of an attack that can be scaled to a slow model; 1 is the whole."""
    return field(default=1.0, metadata={UNNAMED: True})


def from_zero(default: float) -> Any:
    """Return a field whose value may be 0, which omits a part of the attack."""
    return field(default=default, metadata={FROM_ZERO: True})


ModelLike = nn.Module | Classifier | Callable[[Tensor], Tensor]
"""Models that attacks take."""


class _Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any):
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


def as_module(model: ModelLike) -> nn.Module:
    """Return a model as a module."""
    if isinstance(model, nn.Module):
        return model
    module = getattr(model, "module", None)
    return module if isinstance(module, nn.Module) else _Called(model)


@dataclass(frozen=True)
class Attack(ABC):
    """A search for adversarial images: a frozen dataclass whose fields are its settings.

    `id` names it in records and seeds its random numbers whatever the class is called, `norms` are
    those it supports, and `gradients` says whether it follows the model's.
    """

    id: ClassVar[str]
    norms: ClassVar[tuple[str, ...]] = ("linf",)
    gradients: ClassVar[bool] = True

    def __call__(
        self,
        model: ModelLike,
        images: Tensor,
        labels: Tensor,
        *,
        start: Tensor | None = None,
        generator: Randomness | None = None,
    ) -> Tensor:
        """Return adversarial images, (n, c, h, w) in [0, 1].

        Images that the model misclassifies already, or that the attack does not fool, are returned
        unchanged unless the class says otherwise.

        Args:
            model: a module or another function from images to logits (n, classes), or a
                classifier of `scotoma.load_model`. A module is attacked in eval mode and keeps its
                own; of a function only its author knows the mode.
            images: float32 (n, c, h, w) in [0, 1].
            labels: the correct classes, int (n,).
            start: images (n, c, h, w) from which to search instead of the attack's own start.
            generator: random numbers of each image; by default those of seed 0.

        Raises:
            InputError: images are not float32 or lie outside [0, 1], labels are not one class
                number an image, the model does not return finite logits with an output for each
                label, or the attack does not support `start`.
        """
        network, labels = as_module(model), checked(images, labels)
        with prepared(network, images, labels, start) as (network, images, labels, start):
            random = generator or Randomness.default(images)
            if start is None:
                return self.run(network, images, labels, random).detach()
            return self.run_from(start, network, images, labels, random).detach()

    @abstractmethod
    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        """Return adversarial images, (n, c, h, w): the attack itself, arguments as in the call."""

    def run_from(
        self, start: Tensor, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> Tensor:
        """Return adversarial images, (n, c, h, w), from a search that begins at `start`."""
        raise InputError(f"start: {type(self).__name__} cannot begin at other images")

    def check_norm(self, norm: str) -> None:
        """Raise `InputError` for a norm that is not in `norms`, or for invalid settings."""
        for each in fields(self):
            _check_setting(each, getattr(self, each.name))
        if norm not in self.norms:
            supported = " and ".join(self.norms)
            alone = str(norm).partition(":")[0]
            if alone in self.norms:
                raise InputError(
                    f"attack {type(self).__name__} finds the smallest perturbation and takes no "
                    f"size; write {type(self).__name__}({alone!r})"
                )
            raise InputError(f"attack {type(self).__name__} is for {supported}, not for {norm}")


def _check_setting(setting: Field[Any], value: Any) -> None:
    """Raise `InputError` for a number of another kind than its default, or with another sign."""
    default = setting.default
    kind = setting.type if isinstance(setting.type, str) else getattr(setting.type, "__name__", "")
    kind, _, optional = kind.partition(" | ")
    if default is MISSING or kind not in ("int", "float") or (optional and value is None):
        return
    least = default if isinstance(default, int | float) else 1
    integer = kind == "int"
    valid = isinstance(value, Integral if integer else Real) and not isinstance(value, bool)
    number = float(value) if valid else math.nan  # type: ignore[arg-type]
    range_ = ""
    if least > 0 and not setting.metadata.get(FROM_ZERO):
        valid, range_ = 0 < number < math.inf, " above 0"
    elif least >= 0:
        valid, range_ = 0 <= number < math.inf, " from 0"
    if not valid:
        want = "a whole number" if integer else "a number"
        raise InputError(f"{setting.name}={value!r}: want {want}{range_}")


class ThreatField:
    """Type of a field that is a `Threat` and may be set as text, which type checkers understand."""

    def __get__(self, attack: Any, owner: type | None = None) -> Threat:
        if attack is None:
            raise AttributeError("threat")  # the field has no default
        return attack.__dict__["threat"]

    def __set__(self, attack: Any, value: Threat | str) -> None:
        attack.__dict__["threat"] = Threat.parse(value)


@dataclass(frozen=True)
class BoundedAttack(Attack):
    """An attack that stays inside a threat.

    Args:
        threat: the ball, a `Threat` or text such as "linf:8/255".

    Raises:
        InputError: the attack does not support the threat's norm.
    """

    threat: ThreatField = ThreatField()

    def __post_init__(self):
        self.check_norm(self.threat.norm)

    @property
    def norm(self) -> str:
        """The threat's norm."""
        return self.threat.norm


@dataclass(frozen=True)
class MinimumNormAttack(Attack):
    """An attack that returns the smallest perturbation that it finds, of any size.

    Args:
        norm: the norm to minimise: "linf", "l2", "l1" or "l0" (which counts pixels).

    Raises:
        InputError: the attack does not support the norm.
    """

    norm: str

    def __post_init__(self):
        self.check_norm(self.norm)


@dataclass(frozen=True)
class Wrapped(Attack):
    """An attack that changes the model that another attack sees, or the images that it returns.

    Args:
        attack: the other attack.
    """

    norms: ClassVar = tuple(NORMS)
    attack: Callable[..., Tensor]

    @property
    def norm(self) -> str:
        """The norm of the other attack."""
        return self.attack.norm  # type: ignore[attr-defined]

    def wrap(self, model: nn.Module, images: Tensor, random: Randomness) -> nn.Module:
        """Return the model that the other attack sees."""
        return model

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        return self.attack(self.wrap(model, images, random), images, labels, generator=random)

    def run_from(
        self, start: Tensor, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> Tensor:
        wrapped = self.wrap(model, images, random)
        return self.attack(wrapped, images, labels, start=start, generator=random)
