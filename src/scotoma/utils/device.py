"""Devices and precision: where a model runs, and in which number format attacks search."""

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

from scotoma.utils.logits import magnitude
from scotoma.utils.random import own_numbers

CACHED_PIXELS = 256 * 28 * 28
"""Pixels of a batch on a CPU. More 28x28 images fall out of its caches; with far fewer, the second
stage of an attack has hardly any images left that withstand the first (docs/log.md)."""

FEWEST, LARGE, FEW = 64, 3 * 64 * 64, 8
"""Fewest images of a batch on a CPU, the values from which an image is large, and the fewest of
those: a large image fills the processor alone, and its activations take 100 MB and more."""

WORTH_BF16 = 5e6
"""Floating-point operations an image from which bf16 pays: a small model's passes are mostly
dispatch, which bf16 does not shorten."""

OTHER = 0.2
"""Difference between logits in bf16 and in float32, as a share of the largest, from which they are
those of another model: networks and defences differ by up to 0.09, and activation pruning, whose
probabilities round to 0 in bf16, by 1."""

KEPT_BYTES = 2**30
"""Freed memory that the process keeps, a gigabyte."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt in glibc's malloc.h."""


def default_device() -> torch.device:
    """Return the accelerator, else the CPU; of several accelerators, the one of this process."""
    device = torch.accelerator.current_accelerator()
    if device is None:
        return torch.device("cpu")
    index = int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.accelerator.device_count())
    torch.accelerator.set_device_index(index)
    return torch.device(device.type, index)


def has_bf16(device: torch.device) -> bool:
    """Return whether the device computes in bf16 rather than emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capability = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else ""
    return "AVX512" in capability and _cpu_flag("avx512_bf16")


def autocast(device: torch.device, enabled: bool = True) -> AbstractContextManager:
    """Return a bf16 autocast if the device has bf16, else a context that does nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and has_bf16(device))


def pays_in_bf16(model: nn.Module, images: Tensor) -> bool:
    """Return whether gradients are so much cheaper in bf16 that attacks should search in it.

    This depends on the hardware and on the model's operations an image, not on a clock: runs on the
    same kind of machine search in the same precision. A true attribute `precise` rules bf16 out,
    and so do logits that are quite others in bf16 on these images.
    """
    if not has_bf16(images.device) or any(
        getattr(part, "precise", False) for part in model.modules()
    ):
        return False
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(images)
        pays = counter.get_total_flops() / len(images) >= WORTH_BF16
        return pays and _agrees_in_bf16(model, images)
    except Exception:  # a program whose operations cannot be counted, or not done in bf16
        return False


@torch.no_grad()
def _agrees_in_bf16(model: nn.Module, images: Tensor) -> bool:
    """Return whether the logits in bf16 are near those in float32, from the same random numbers."""
    answers = []
    for reduced in (False, True):
        with own_numbers(0), autocast(images.device, enabled=reduced):
            answers.append(model(images).float())
    full, low = answers
    return bool(((full - low).abs().amax(1) <= OTHER * magnitude(full)).all())


@cache  # an attack asks at each step, and many cores make a long file
def _cpu_flag(flag: str) -> bool:
    try:
        return flag in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


@cache
def keep_memory() -> None:
    """Let this process keep up to a gigabyte of freed memory, if its C library is glibc.

    Otherwise glibc returns the pages of large tensors after every layer and gets them back one page
    fault at a time, which takes a fifth of a convolutional network's time on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)


def batch_size(device: torch.device, pixels: int) -> int:
    """Return the batch size for images of `pixels` values.

    On a CPU activations stay in its caches; other devices are filled, and take fewer large
    images, whose activations take some 100 MB each.
    """
    if device.type != "cpu":
        return 1024 if pixels <= LARGE else 128
    return min(1024, max(FEWEST if pixels <= LARGE else FEW, CACHED_PIXELS // pixels))
