"""The pointwise attack: noise that fools, reverted pixel by pixel (Schott et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.initialization import FewPixels
from scotoma.attacks.core.nearest import chosen, column, over_channels, size
from scotoma.attacks.core.path_search import HALVINGS
from scotoma.attacks.core.search import Search
from scotoma.utils.random import Randomness

ONE_IN = 8
"""Changed pixels for each needed one, as assumed before any was tried."""

FILL = 0.7
"""Expected number of needed pixels in a block: ln 2, so that every other block can be reverted."""

SWEEPS = 10
WORTH = 0.99
"""Share of its distance below which a sweep of bisections must bring an image to be repeated."""


VALUES = 1 << 26
"""Pixel values of the attempts that run together."""


@dataclass(frozen=True)
class Pointwise(MinimumNormAttack):
    """Sets random pixels to black or white until the model is fooled, then reverts all it can.

    Schott et al. 2019, section 5 and appendix. Blocks of pixels, in random order, are reverted at
    once where the model stays fooled; other blocks are halved until the needed pixel is adversarial
    (generalised binary splitting, Hwang 1972). Then single pixels are tried until none of the rest
    can be reverted alone. For L1 and L2 the remaining pixels are bisected towards the image, one by
    one, in sweeps.

    `start` replaces the noise and the restarts; images that it does not fool are unchanged.

    Args:
        norm: "l0", "l1" or "l2", the norm to minimise.
        restarts: searches from different noise, of which the best counts.
        draws: noise images to try for a start.

    >>> images, labels = torch.tensor([[[[0.6, 0.4, 0.0]]]]), torch.tensor([0])
    >>> adversarial = Pointwise("l0", restarts=2)(nn.Flatten(), images, labels)
    >>> int((adversarial != images).sum())
    1
    """

    id: ClassVar[str] = "pointwise"
    norms: ClassVar = ("l0", "l1", "l2")
    gradients: ClassVar = False
    restarts: int = 10
    draws: int = 20

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        adversarial = images.clone()
        search = Search.begin(model, images, labels, random)
        best = torch.full((len(images),), torch.inf, device=images.device)
        together = max(1, VALUES // max(1, search.clean.numel()))
        for part in torch.arange(self.restarts if len(search) else 0).split(together):
            attempts = search.repeated(part.tolist())
            FewPixels("l0", draws=self.draws).follow(attempts)
            self._take_back(attempts, adversarial, best)
        return adversarial

    def run_from(
        self, start: Tensor, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> Tensor:
        # once, and unchanged where `start` does not fool
        adversarial = images.clone()
        search = Search.begin(model, images, labels, random)
        best = torch.full((len(images),), torch.inf, device=images.device)
        if len(search):
            search.begin_at(start, "l0")
            self._take_back(search, adversarial, best)
        return adversarial

    def _take_back(self, search: Search, adversarial: Tensor, best: Tensor) -> None:
        """Revert what can be; `adversarial` and `best`, their distances, keep the nearest."""
        search.drop(search.distance.isinf())
        if not len(search):
            return
        _blocks(search)
        _singles(search)
        if self.norm != "l0":
            _values(search, self.norm)
        distance = size(search.x - search.clean, self.norm)
        best.scatter_reduce_(0, search.rows, distance, "amin")
        nearest = (distance == best[search.rows]).nonzero().squeeze(1)
        rows, number = search.rows[nearest], torch.arange(len(nearest), device=best.device)
        first = torch.full_like(best, len(nearest), dtype=torch.int64).scatter_reduce_(
            0, rows, number, "amin"
        )
        chosen = nearest[first[rows] == number]  # one attempt an image, where several tie
        adversarial[search.rows[chosen]] = search.x[chosen]


def _blocks(search: Search) -> None:
    """Revert blocks of changed pixels in random order."""
    changed, rank = _ranked(search)
    total = changed.sum(1).long()
    # doubtful: number of pixels from `position` on among which one is needed
    position, doubtful, needed = (torch.zeros_like(total) for _ in range(3))
    rows = (total > 0).nonzero().squeeze(1)
    while len(rows):
        at, all_, doubt, need = (part[rows] for part in (position, total, doubtful, needed))
        guess = (FILL * (at - need + ONE_IN) / (need + 1)).long().clamp_min(1)
        block = torch.where(doubt > 1, doubt // 2, guess).minimum(all_ - at)
        order = rank[rows]
        inside = order.clone().ge_(at[:, None])
        free = _try(search, rows, inside.mul_(order.lt_((at + block)[:, None])))
        doubt = torch.where(free, (doubt - block).clamp_min(0), block)
        must = doubt == 1
        at = at + torch.where(free, block, 0) + must.long()
        position[rows], needed[rows] = at, need + must.long()
        doubtful[rows] = torch.where(must, 0, doubt)
        rows = rows[at < all_]


def _singles(search: Search) -> None:
    """Revert single pixels until each remaining one was tried since the last success."""
    changed, rank = _ranked(search)
    # time of the last attempt, below 0 before the first: the smallest is next
    tried_at = (rank - rank.shape[1]).masked_fill_(changed == 0, torch.inf)
    success = torch.zeros_like(search.distance)
    rows, now = torch.arange(len(search), device=rank.device), 0
    while True:
        oldest, pixel = tried_at[rows].min(1)
        waiting = oldest <= success[rows]
        rows, pixel = rows[waiting], pixel[waiting]
        if not len(rows):
            return
        now += 1
        mask = torch.zeros_like(changed[rows]).scatter_(1, pixel[:, None], 1)
        free = _try(search, rows, mask)
        tried_at[rows, pixel] = float(now)
        tried_at[rows[free], pixel[free]] = torch.inf
        success[rows[free]] = float(now)


def _values(search: Search, norm: str) -> None:
    """Bisect the values of the changed pixels towards the image, one after the other."""
    rows = torch.arange(len(search), device=search.queries.device)
    for _ in range(SWEEPS):
        before = size(search.x - search.clean, norm)
        changed, rank = _ranked(search)
        total = changed.sum(1).long()
        for number in range(int(total[rows].amax()) if len(rows) else 0):
            active = rows[total[rows] > number]
            x, mask = search.x[active], rank[active].eq_(number).view(-1, 1, *search.x.shape[2:])

            def place(clean: Tensor, x: Tensor, reach: Tensor, mask: Tensor = mask) -> Tensor:
                return chosen(mask, clean + column(reach) * (x - clean), x).clamp_(0, 1)

            far = torch.ones_like(before[active])
            search.x[active], _ = search.bisect(active, x, place, x, far, HALVINGS)
        rows = rows[(size(search.x - search.clean, norm) < WORTH * before)[rows]]
        if not len(rows):
            return


def _ranked(search: Search) -> tuple[Tensor, Tensor]:
    """Return which pixels are changed, 1 or 0 (n, pixels), and ranks in random order, those first.

    Both are float32, as `chosen` takes them.
    """
    changed = over_channels((search.x - search.clean).sign_().abs_()).flatten(1)
    chance = search.random.uniform(changed)
    return changed, (chance - changed).argsort(1).argsort(1).float()


def _try(search: Search, rows: Tensor, mask: Tensor) -> Tensor:
    """Revert the pixels in `mask`, (rows, pixels), where the model stays fooled. Return where."""
    x = chosen(mask.view(-1, 1, *search.x.shape[2:]), search.clean[rows], search.x[rows])
    free = search.query(x, rows)
    search.x[rows[free]] = x[free]
    return free
