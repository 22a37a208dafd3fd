"""Threads that sleep while they wait for each other."""

from __future__ import annotations

import os
import sys
import warnings
from functools import cache

POLICY = "OMP_WAIT_POLICY"
"""Environment variable that OpenMP reads when torch is loaded."""


def sleep_while_waiting() -> None:
    """Let OpenMP's threads sleep rather than spin while they wait, if torch is not loaded yet.

    Beside any other busy program, spinning threads wait for one that is not scheduled and take 6 to
    20 times as long (docs/log.md). The user's own policy stays.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault(POLICY, "PASSIVE")


@cache
def warn_of_spinning() -> None:
    """Warn once if threads spin beside other programs, which only a new process can change."""
    import torch

    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if threads > 1 and POLICY not in os.environ and load + threads > cores + 0.5:
        warnings.warn(
            f"this machine is busy (load {load:.1f} on {cores} cores), and the {threads} threads "
            f"of torch spin while they wait, which makes it many times slower; set "
            f"{POLICY}=PASSIVE before Python starts, or import scotoma before torch",
            stacklevel=2,
        )
