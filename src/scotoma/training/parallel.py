"""Training by several processes: each takes its share of every batch, and all take the same step.

`torchrun` starts them and DistributedDataParallel averages their gradients. Shares are weighted by
their size, so that the average is the gradient of the mean over the whole batch, as in one process.
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
from scotoma.training.recipe import Recipe
from scotoma.utils.errors import InputError, reason

PATIENCE = timedelta(days=1)
"""Longest wait for other ranks. `torchrun` notices lost ones; the first may work alone for long."""

TEAMS = count()
"""Counter of the teams of this process: each uses its own part of the store."""


class Step(nn.Module):
    """A recipe's loss of a batch as one module.

    Gradients are thus exchanged in the backward pass of the loss only, not in those of the recipe's
    attack. The module has the model's weights but not its buffers, which DistributedDataParallel
    would overwrite with the first rank's at every step.
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
    """The processes that train one model together, from the view of one of them; see `joined`.

    Args:
        rank: this process, from 0.
        world: number of processes.
        device: device of this process; None is the default.

    >>> Team().share(torch.arange(4))
    (tensor([0, 1, 2, 3]), 1.0)
    """

    rank: int = 0
    world: int = 1
    device: torch.device | None = None

    @property
    def leads(self) -> bool:
        """Whether this process prints and writes files."""
        return self.rank == 0

    def share(self, batch: Tensor, together: int = 1) -> tuple[Tensor, float]:
        """Return this rank's part of a batch and its fraction of the whole, in [0, 1].

        A rank without a part gets images of another one at a fraction of 0, so that no layer has to
        cope with an empty batch.

        Args:
            batch: indices to distribute, (n,).
            together: number of consecutive ones that go to the same rank; divides n.
        """
        turns = batch.view(-1, together)
        mine = turns[self.rank :: self.world]
        return (mine.flatten(), len(mine) / len(turns)) if len(mine) else (turns[0], 0.0)

    def seed(self, *key: int) -> int:
        """Return a seed of this rank; the first rank has that of a single process."""
        return hash((*key, self.rank) if self.rank else key) & 0x7FFFFFFF

    def parallel(self, step: Step, strays: bool) -> nn.Module:
        """Return the step with gradients averaged over ranks.

        `strays` says that the loss may not depend on some of the weights.
        """
        if self.world == 1 or not any(weight.requires_grad for weight in step.parameters()):
            return step
        # convolutions from one channel in channels_last have two equivalent strides
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return DistributedDataParallel(step, find_unused_parameters=strays)

    def total(self, numbers: Tensor) -> Tensor:
        """Return the sum over ranks, on every rank."""
        if self.world > 1:
            numbers = numbers.to(self.device, copy=True)
            dist.all_reduce(numbers)
        return numbers

    def broadcast(self, value: Callable[[], Any]) -> Any:
        """Return what `value` returns on the first rank; it is not called on others."""
        values = [value() if self.leads else None]
        if self.world > 1:
            dist.broadcast_object_list(values, 0)
        return values[0]

    def agree(self, identity: dict[str, Any]) -> None:
        """Raise `InputError` on every rank if this dictionary differs between ranks."""
        if self.world == 1:
            return
        every: list[Any] = [None] * self.world
        dist.all_gather_object(every, identity)
        for rank, other in enumerate(every):
            if differs := [key for key in every[0] if other.get(key) != every[0][key]]:
                raise InputError(
                    f"rank {rank} has another training than rank 0 "
                    f"(different: {', '.join(differs)}); start all ranks with the same "
                    "command on the same files"
                )

    def average_statistics(self, model: nn.Module) -> None:
        """Average the running statistics of batch normalisation over ranks."""
        for name, buffer in model.named_buffers() if self.world > 1 else ():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(self.total(buffer) / self.world)

    def copy(self, model: nn.Module) -> None:
        """Copy the first rank's weights and buffers to every rank."""
        for value in chain(model.parameters(), model.buffers()) if self.world > 1 else ():
            sent = value.detach().contiguous()
            dist.broadcast(sent, 0)
            value.detach().copy_(sent)


ALONE = Team()


@contextmanager
def joined() -> Iterator[Team]:
    """Connect the processes that `torchrun` started: nccl with one CUDA device each, else gloo.

    Raises:
        InputError: more processes on this machine than CUDA devices, or gloo cannot connect.
    """
    group = ranks()
    if not isinstance(group, Group):
        yield ALONE
        return
    rank, world = group.rank, group.world
    device = _device(int(os.environ.get("LOCAL_RANK", "0")))
    outside = dist.is_initialized()
    if not outside:
        cuda, place = device.type == "cuda", f"training {next(TEAMS)}"
        store = dist.PrefixStore(place, group.store)  # type: ignore[attr-defined]
        try:
            dist.init_process_group(
                "nccl" if cuda else "gloo",
                timeout=PATIENCE,
                store=store,
                rank=rank,
                world_size=world,
                device_id=device if cuda else None,
            )
        except RuntimeError as error:
            if cuda:
                raise
            raise InputError(
                f"processes cannot connect ({reason(error)}); set GLOO_SOCKET_IFNAME to the "
                "network interface between them"
            ) from None
    yield Team(rank, world, device)
    if not outside:  # not after an error: others may be gone, and this would wait for ever
        dist.destroy_process_group()


def _device(local: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local >= torch.cuda.device_count():
        raise InputError(
            f"--nproc-per-node: this machine has {torch.cuda.device_count()} CUDA devices; start "
            "as many processes"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
