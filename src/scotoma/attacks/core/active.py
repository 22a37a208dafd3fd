"""The active set: an attack's state of the images that it still works on."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import Tensor

from scotoma.attacks.core.oracle import Oracle


@dataclass
class Active:
    """Per-image state of an attack; a finished image leaves all fields at once.

    Subclasses add fields: tensors with one row an image, or objects with a `select` method.
    """

    oracle: Oracle

    def __len__(self) -> int:
        return len(self.oracle)

    @property
    def rows(self) -> Tensor:
        """Indices in the whole batch of the images still here, int64."""
        return self.oracle.rows

    def finish(self, done: Tensor, x: Tensor, adversarial: Tensor) -> None:
        """Write the rows of `x` in the mask `done` into `adversarial`, and drop these images."""
        if bool(done.any()):
            adversarial[self.rows[done]] = x[done]
            self.drop(done)

    def drop(self, done: Tensor) -> None:
        """Drop the images in the mask `done`."""
        if not bool(done.any()):
            return
        keep = (~done).nonzero().squeeze(1)
        for field in fields(self):
            value = getattr(self, field.name)
            rest = value.index_select(0, keep) if isinstance(value, Tensor) else value.select(keep)
            setattr(self, field.name, rest)
