"""Processes of the command line that start at once, from one that has imported torch already."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import torch.distributed as dist

PRELOADED = [
    "pytest",  # multiprocessing imports the parent's main module
    "polars",
    "sklearn.datasets",
    "torch._dynamo",  # by the first optimizer
    "torch.distributed.rendezvous",
    "scotoma.auditing",
    "scotoma.cli",
    "scotoma.report.html",
    "scotoma.training.parallel",
]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(PRELOADED)


def _main(
    folder: Path,
    arguments: list[str],
    environment: dict[str, str],
    files: int | None,
    program: Callable[[], object] | None,
    told: Path,
) -> None:
    for number, name in enumerate(("out", "err"), start=1):
        with (told / name).open("ab") as file:
            os.dup2(file.fileno(), number)
    if files is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (files, files))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    import torch

    from quick import quicken
    from scotoma import cli

    torch.set_num_threads(1)
    quicken()
    sys.argv = ["scotoma", *arguments]
    (program or cli.main)()


class Process:
    """`scotoma ARGUMENTS` in a folder, with the part of subprocess.Popen that tests want.

    Args:
        folder: where it runs.
        arguments: of the command line.
        files: how many bytes a file may have, of the disk that is full.
        program: called in place of the command line.
        environment: variables that differ from those of this process.
    """

    def __init__(
        self,
        folder: Path,
        arguments: list[str],
        *,
        files: int | None = None,
        program: Callable[[], object] | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        self._told = tempfile.TemporaryDirectory()
        variables = dict(os.environ) | dict(environment or {})
        told = Path(self._told.name)
        self._process = CONTEXT.Process(
            target=_main, args=(folder, arguments, variables, files, program, told)
        )
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for the end, and return what was printed to standard output and error."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"{self._process.name} has not ended after {timeout:g} s")
        told = Path(self._told.name)
        printed = (told / "out").read_text(), (told / "err").read_text()
        self._told.cleanup()
        return printed

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode


def together(
    folder: Path,
    arguments: list[str],
    world: int = 2,
    *,
    program: Callable[[], object] | None = None,
    timeout: float = 300,
    **environment: str,
) -> list[tuple[int | None, str, str]]:
    """Run ranks as torchrun starts them: each one's exit code, standard output and error."""
    with ExitStack() as ended:
        store = dist.TCPStore(  # type: ignore[reportPrivateImportUsage]
            "127.0.0.1", 0, is_master=True, wait_for_workers=False
        )
        meeting = {
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "WORLD_SIZE": str(world),
        }
        ranks = []
        for rank in range(world):
            own = environment | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            ranks.append(Process(folder, arguments, program=program, environment=own))
            ended.callback(ranks[-1].kill)
        told = [rank.communicate(timeout) for rank in ranks]
    return [(rank.returncode, *printed) for rank, printed in zip(ranks, told, strict=True)]
