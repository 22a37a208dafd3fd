"""Devices and precision: where a model runs, and in which number format it is searched."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import torch


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


def batch_size(device: torch.device) -> int:
    """Images at once: on a CPU so many that activations stay in its caches, on an accelerator enough to fill it."""
    return 128 if device.type == "cpu" else 1024
