"""Training by several processes: each takes its share of every batch, and all of them take the same step.

`torchrun` starts them and DistributedDataParallel averages their gradients. Shares count by their size, so that the average is
the gradient of the mean over the whole batch, as in one process.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain, count
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scotoma.execution.ranks import Group, ranks
from scotoma.models.error_summary import reason
from scotoma.training.recipe import Recipe
from scotoma.utils.errors import InputError

PATIENCE = timedelta(days=1)
"""What a rank waits for the others: `torchrun` notices those that are lost, and the first may be at work alone for long."""

TEAMS = count()
"""Teams that this process has joined: each meets where no other has left its addresses."""


class Step(nn.Module):
    """A recipe's loss of a batch as one module, so that gradients are exchanged in the backward pass of the loss alone, not in
    those that the recipe makes on its way to it.

    All that is seen of the model are its weights: buffers are none of DistributedDataParallel's, which would give all ranks the
    first one's at every step.
    """

    def __init__(self, model: nn.Module, recipe: Recipe):
        super().__init__()
        self.weights = nn.ParameterList(model.parameters())
        self._loss = partial(recipe, model)

    def forward(
        self, images: Tensor, labels: Tensor, progress: float, generator: torch.Generator
    ) -> Tensor:
        return self._loss(images, labels, progress, generator)


@dataclass(frozen=True)
class Team:
    """The processes that train one model together, as one of them sees it; `joined` makes it. Alone, nothing is exchanged.

    Args:
        rank: this process, from 0.
        world: how many there are.
        device: where this one computes; None is the default.
    """

    rank: int = 0
    world: int = 1
    device: torch.device | None = None

    @property
    def leads(self) -> bool:
        """Whether this process prints and writes files."""
        return self.rank == 0

    def share(self, batch: Tensor, together: int = 1) -> tuple[Tensor, float]:
        """This rank's part of a batch, and the share of the whole that it is, in [0, 1].

        A rank for which nothing is left is lent images of another one at a share of 0: no layer has to cope with an empty batch.

        Args:
            batch: what is dealt out, (n,).
            together: so many in a row go to the same rank; divides n.
        """
        turns = batch.view(-1, together)
        mine = turns[self.rank :: self.world]
        return (mine.flatten(), len(mine) / len(turns)) if len(mine) else (turns[0], 0.0)

    def seed(self, *key: int) -> int:
        """A seed of this rank's own; the first rank's is that of a process alone."""
        return hash((*key, self.rank) if self.rank else key) & 0x7FFFFFFF

    def parallel(self, step: Step, strays: bool) -> nn.Module:
        """The step, whose gradients become the mean over ranks; `strays` says that the loss may not depend on some weights."""
        if self.world == 1 or not any(weight.requires_grad for weight in step.parameters()):
            return step
        # of convolutions from one channel in channels_last, whose strides can be told in two ways
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return DistributedDataParallel(step, find_unused_parameters=strays)

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over ranks, on each of them."""
        if self.world > 1:
            numbers = numbers.to(self.device, copy=True)
            dist.all_reduce(numbers)
        return numbers

    def told(self, value: Callable[[], Any]) -> Any:
        """What the first rank's `value` returns; the others' is not called."""
        said = [value() if self.leads else None]
        if self.world > 1:
            dist.broadcast_object_list(said, 0)
        return said[0]

    def agree(self, identity: dict[str, Any]) -> None:
        """Raise `InputError` on every rank if this dictionary is not the same on all, for example since files differ."""
        if self.world == 1:
            return
        every: list[Any] = [None] * self.world
        dist.all_gather_object(every, identity)
        for rank, other in enumerate(every):
            if differs := [key for key in every[0] if other.get(key) != every[0][key]]:
                raise InputError(
                    f"rank {rank} was given another training than rank 0 (its {', '.join(differs)}); start all of them with the "
                    "same command on the same files"
                )

    def average_statistics(self, model: nn.Module) -> None:
        """Give every rank the mean of what batch normalisation has noted of all shares."""
        for name, buffer in model.named_buffers() if self.world > 1 else ():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(self.total(buffer) / self.world)

    def copy(self, model: nn.Module) -> None:
        """Give every rank the first one's weights and buffers."""
        for value in chain(model.parameters(), model.buffers()) if self.world > 1 else ():
            sent = value.detach().contiguous()
            dist.broadcast(sent, 0)
            value.detach().copy_(sent)


ALONE = Team()


@contextmanager
def joined() -> Iterator[Team]:
    """The processes that `torchrun` has started, connected: by nccl on CUDA devices, of which each takes one, else by gloo.

    Raises:
        InputError: more processes on this machine than it has CUDA devices, or gloo does not reach the others.
    """
    group = ranks()
    if not isinstance(group, Group):
        yield ALONE
        return
    rank, world = group.rank, group.world
    device = _device(int(os.environ.get("LOCAL_RANK", "0")))
    outside = dist.is_initialized()
    if not outside:
        cuda = device.type == "cuda"
        try:
            dist.init_process_group(
                "nccl" if cuda else "gloo",
                timeout=PATIENCE,
                store=dist.PrefixStore(f"training {next(TEAMS)}", group.store),  # type: ignore[attr-defined]
                rank=rank,
                world_size=world,
                device_id=device if cuda else None,
            )
        except RuntimeError as error:
            if cuda:
                raise
            raise InputError(
                f"processes do not reach each other ({reason(error)}); set GLOO_SOCKET_IFNAME to the network interface between them"
            ) from None
    yield Team(rank, world, device)
    if not outside:  # after an error the others may be gone, and to part from them in good order would take for ever
        dist.destroy_process_group()


def _device(local: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local >= torch.cuda.device_count():
        raise InputError(
            f"--nproc-per-node: there are {torch.cuda.device_count()} CUDA devices here; start as many processes"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
