"""How much memory a piece of work holds at most."""

from __future__ import annotations

import ctypes
import gc
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def resident(field: str) -> float:
    """MiB of this process, on Linux: "VmRSS" now, "VmHWM" at its peak."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def forget_peak() -> None:
    """Let "VmHWM" begin again at what is held now, with freed memory handed back first, which would hide new peaks."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


@contextmanager
def peak(device: torch.device) -> Iterator[list[float]]:
    """A list that gets the MiB held at most inside, beyond what was held before: of the device, or of this process where that is
    the CPU; NaN where it cannot be read."""
    held: list[float] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield held
        held.append((torch.cuda.max_memory_allocated(device) - before) / 2**20)
    elif sys.platform == "linux":
        forget_peak()
        before = resident("VmRSS")
        yield held
        held.append(max(0.0, resident("VmHWM") - before))
    else:
        yield held
        held.append(math.nan)
