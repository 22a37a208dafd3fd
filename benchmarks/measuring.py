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


def resident(field: str) -> float:
    """MiB of this process, on Linux: "VmRSS" now, "VmHWM" at its peak."""
    line = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert line
    return int(line[1]) / 1024


@contextmanager
def peak(device: torch.device) -> Iterator[list[float]]:
    """A list that gets the peak in MiB inside, beyond what was allocated before: of the device, or
    of this process where that is the CPU; NaN where it cannot be read."""
    more = list[float]()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield more
        more.append((torch.cuda.max_memory_allocated(device) - before) / 2**20)
    elif sys.platform == "linux":
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # freed memory would hide peaks
        Path("/proc/self/clear_refs").write_text("5")  # "VmHWM" restarts at the present size
        before = resident("VmRSS")
        yield more
        more.append(max(0.0, resident("VmHWM") - before))
    else:
        yield more
        more.append(math.nan)


def fresh(module: str, function: str, *arguments: Any, threads: int = 1) -> Any:
    """Call a function of a benchmark in a process of its own; arguments and value are JSON."""
    code = f"import json, sys; sys.path.insert(0, {HERE!r}); import {module}; "
    code += f"print(json.dumps({module}.{function}(*{arguments!r})))"
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | limits, check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def timed(part: str, clocks: dict[str, tuple[float, float]]) -> Iterator[None]:
    """Note wall-clock and processor seconds of what is done inside, and print them."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    clocks[part] = time.perf_counter() - wall, time.process_time() - processor
    print("{:<30}{:8.1f} s  processor {:8.1f} s".format(part, *clocks[part]), flush=True)
