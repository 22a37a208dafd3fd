"""Examples crafted on other models; the attacked model is only evaluated (Szegedy et al. 2014)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from scotoma.attacks.core.base import BoundedAttack, ModelLike, as_module
from scotoma.attacks.core.oracle import Oracle
from scotoma.attacks.iterative import MIM
from scotoma.models.modes import evaluating
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class Transfer(BoundedAttack):
    """Crafts examples on each source in turn, and keeps the first that fools the attacked model.

    Passes are those of the attacked model: what the sources take is not counted.

    Args:
        threat: the ball, L-inf or L2.
        sources: the models on which examples are crafted.
        steps: momentum iterations on a source (`MIM`), all of which are taken.

    Raises:
        InputError: there are no sources, or the norm is not supported.

    >>> import scotoma
    >>> Transfer("linf:0.2")
    Traceback (most recent call last):
    scotoma.utils.errors.InputError: attack transfer needs models to make examples on; ...
    """

    id: ClassVar[str] = "transfer"
    norms: ClassVar = ("linf", "l2")
    gradients: ClassVar = False
    sources: Sequence[ModelLike] = ()
    steps: int = 20

    def __post_init__(self):
        super().__post_init__()
        if not self.sources:
            raise InputError(
                "attack transfer needs models to make examples on; give sources=MODEL,MODEL"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        adversarial = images.clone()
        oracle = Oracle(model, labels)
        for number, source in enumerate(self.sources):
            if not len(oracle):
                break
            rows = oracle.rows
            make = MIM(self.threat, self.steps, until_fooled=False)
            examples = craft(
                make, source, images[rows], labels[rows], random.select(rows).fork(number)
            )
            fooled = oracle.fooled(examples)
            adversarial[rows[fooled]] = examples[fooled]
            oracle = oracle.select(~fooled)
        return adversarial


def craft(
    attack: Callable[..., Tensor],
    source: ModelLike,
    images: Tensor,
    labels: Tensor,
    random: Randomness,
) -> Tensor:
    """Return the examples that an attack crafts from the images on another model, (n, c, h, w)."""
    module = as_module(source).to(images.device)
    with evaluating(module):
        return attack(module, images, labels, generator=random)
