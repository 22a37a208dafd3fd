"""Threads that sleep while they wait for each other."""

from __future__ import annotations

import os
import sys
import warnings
from functools import cache

POLICY = "OMP_WAIT_POLICY"
"""Environment variable that OpenMP reads when torch is loaded."""


def sleep_while_waiting() -> None:
    """Let OpenMP's threads sleep rather than spin while they wait, where torch is not loaded yet.

    Threads that spin beside any other busy program wait for one that is not scheduled, and take 6 to
    20 times as long (docs/log.md). A policy that the user has set stays.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault(POLICY, "PASSIVE")


@cache
def warn_of_spinning() -> None:
    """Warn once if threads spin beside other programs: nothing changes that after torch is loaded."""
    import torch

    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if threads > 1 and POLICY not in os.environ and load + threads > cores + 0.5:
        warnings.warn(
            f"this machine is busy (load {load:.1f} on {cores} cores), and the {threads} threads of "
            f"torch spin while they wait, which makes it many times slower; set {POLICY}=PASSIVE before "
            "Python starts, or import scotoma before torch",
            stacklevel=2,
        )
