"""Devices and precision: where a model runs, and in which number format it is searched."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import torch

CACHED_PIXELS = 128 * 28 * 28
"""Of 28x28 images 128 at once are fastest on a CPU (docs/log.md); smaller images leave room for more."""


def default_device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    return torch.accelerator.current_accelerator() or torch.device("cpu")  # type: ignore[return-value]


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is faster than float32 there rather than emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capability = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else ""
    return "AVX512" in capability and _cpu_flag("avx512_bf16")


def autocast(device: torch.device, enabled: bool = True) -> AbstractContextManager:
    """bf16 autocast where it pays, else nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and has_bf16(device))


def _cpu_flag(flag: str) -> bool:
    try:
        return flag in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def batch_size(device: torch.device, pixels: int) -> int:
    """Images of `pixels` values at once: on a CPU so many that activations stay in its caches, else enough to fill the device."""
    return min(1024, max(64, CACHED_PIXELS // pixels)) if device.type == "cpu" else 1024
