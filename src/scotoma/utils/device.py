"""Devices and precision: where a model runs, and in which number format it is searched."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

CACHED_PIXELS = 256 * 28 * 28
"""On a CPU passes over more 28x28 images than this fall out of its caches; far fewer leave hardly any for an attack's second
stage, which works on the few images that still stand (docs/log.md). Smaller images leave room for more."""

WORTH_BF16 = 5e6
"""Floating-point operations of a forward pass an image: a small model's passes are mostly dispatch, which bf16 does not shorten."""


KEPT_BYTES = 2**30
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""


def default_device() -> torch.device:
    """The accelerator where there is one, else the CPU; of several, the one of this process among those on the machine."""
    device = torch.accelerator.current_accelerator()
    if device is None:
        return torch.device("cpu")
    index = int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.accelerator.device_count())
    torch.accelerator.set_device_index(index)
    return torch.device(device.type, index)


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is faster than float32 there rather than emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capability = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else ""
    return "AVX512" in capability and _cpu_flag("avx512_bf16")


def autocast(device: torch.device, enabled: bool = True) -> AbstractContextManager:
    """bf16 autocast where it pays, else nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and has_bf16(device))


def pays_in_bf16(model: nn.Module, images: Tensor) -> bool:
    """Whether gradients are so much cheaper in bf16 that attacks should search in it.

    The answer follows from the hardware and from the model's multiplications an image, not from a clock: the same run on
    the same kind of machine searches in the same precision. A module with a true attribute `precise` wants none of it.
    """
    if not has_bf16(images.device) or any(
        getattr(part, "precise", False) for part in model.modules()
    ):
        return False
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(images)
    except Exception:  # a program that cannot be looked into
        return False
    return counter.get_total_flops() / len(images) >= WORTH_BF16


def _cpu_flag(flag: str) -> bool:
    try:
        return flag in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


@cache
def keep_memory() -> None:
    """Let this process keep up to a gigabyte of the memory that it frees, where its C library is glibc.

    Which otherwise returns the pages of large tensors to the system after every layer, and gets them back one fault at a time:
    a fifth of the time of a convolutional network's passes over 32x32 images on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)


def batch_size(device: torch.device, pixels: int) -> int:
    """Images of `pixels` values at once: on a CPU so many that activations stay in its caches, else enough to fill the device."""
    return min(1024, max(64, CACHED_PIXELS // pixels)) if device.type == "cpu" else 1024
