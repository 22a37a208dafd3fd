"""Time and memory of a piece of work."""

import ctypes
import gc
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

HERE = str(Path(__file__).resolve().parent)


def clock(device: torch.device | None = None) -> float:
    """Seconds when all work of the device is done: of the processor where this process has one
    thread on a CPU, so that other programs do not count, else of the wall clock."""
    if device is not None and device.type != "cpu":
        torch.accelerator.synchronize(device)
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


@contextmanager
def clocked(model: nn.Module) -> Iterator[list[float]]:
    """A list that gets the seconds of each forward pass and each backward pass through PyTorch."""
    spent, starts = list[float](), list[float]()

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            result = function(*args, **kwargs)
            spent.append(clock() - start)
            return result

        return call

    before = model.register_forward_pre_hook(lambda *_: starts.append(clock()))
    after = model.register_forward_hook(lambda *_: spent.append(clock() - starts.pop()))
    grad, backward = timed(torch.autograd.grad), timed(torch.autograd.backward)
    with before, after, mock.patch.multiple(torch.autograd, grad=grad, backward=backward):
        yield spent


@dataclass
class Spent:
    """Seconds of a piece of work by `clock`, of the wall clock and of the processor, and its peak
    memory in MiB beyond what was allocated before, NaN where it cannot be read."""

    seconds: float = 0.0
    wall: float = 0.0
    processor: float = 0.0
    mib: float = math.nan

    def __str__(self) -> str:
        return f"{self.wall:.1f} s, processor {self.processor:.1f} s"


@contextmanager
def spending(device: torch.device | None = None) -> Iterator[Spent]:
    """Measure what is done inside, with the memory of the device, or of this process on a CPU."""
    spent, before = Spent(), restart_peak(device)
    starts = clock(device), time.perf_counter(), time.process_time()
    yield spent
    ends = clock(device), time.perf_counter(), time.process_time()
    spent.seconds, spent.wall, spent.processor = (b - a for a, b in zip(starts, ends, strict=True))
    spent.mib = max(peak(device) - before, 0.0)


def restart_peak(device: torch.device | None) -> float:
    """Let the peak begin at the present size, which is returned, in MiB."""
    if device is not None and device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    if sys.platform == "linux":
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # freed memory would hide peaks
        Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def peak(device: torch.device | None = None) -> float:
    """Peak in MiB of a device, or of this process where that is a CPU."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resident("VmHWM")


def resident(field: str) -> float:
    """MiB of this process: "VmRSS" now, "VmHWM" at its peak; NaN where this is not Linux."""
    if sys.platform != "linux":
        return math.nan
    line = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert line
    return int(line[1]) / 1024


def fresh(module: str, function: str, *arguments: Any, threads: int = 1) -> Any:
    """Call a function of a benchmark in a process of its own; arguments and value are JSON."""
    code = f"import json, sys; sys.path.insert(0, {HERE!r}); import {module}; "
    code += f"print(json.dumps({module}.{function}(*{arguments!r})))"
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | limits, check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout.splitlines()[-1])
