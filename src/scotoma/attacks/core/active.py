"""The active set: what an attack knows of the images that it still works on."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import Tensor

from scotoma.attacks.core.oracle import Oracle


@dataclass
class Active:
    """Per-image state of an attack, narrowed together so that a finished image leaves the batch at once.

    Subclasses add fields; each is a tensor with a row an image, or has a `select` of its own.
    """

    oracle: Oracle

    def __len__(self) -> int:
        return len(self.oracle)

    @property
    def rows(self) -> Tensor:
        """Which images of the whole batch are still here, int64."""
        return self.oracle.rows

    def finish(self, done: Tensor, x: Tensor, found: Tensor) -> None:
        """Write those of `x`, the images now, that are in the mask `done` into `found`, and let them leave."""
        if bool(done.any()):
            found[self.rows[done]] = x[done]
            self.drop(done)

    def drop(self, done: Tensor) -> None:
        """Let the images in the mask `done` leave."""
        if not bool(done.any()):
            return
        keep = (~done).nonzero().squeeze(1)
        for field in fields(self):
            part = getattr(self, field.name)
            setattr(
                self,
                field.name,
                part.index_select(0, keep) if isinstance(part, Tensor) else part.select(keep),
            )
