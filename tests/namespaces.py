"""Two nodes on one machine: network namespaces with a link between them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

FIRST_NODE = "10.211.0.1"
"""The address of the first node, as both see it."""
LINK = "wire"
"""The name of the interface to the other node."""

needs_namespaces = pytest.mark.skipif(
    shutil.which("ip") is None
    or subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode
    != 0,
    reason="needs network namespaces",
)


@contextmanager
def two_nodes() -> Iterator[tuple[str, str]]:
    """Yield two namespaces (for `ip netns exec NAME`) that reach each other and nothing else."""
    names = f"scotoma{os.getpid()}a", f"scotoma{os.getpid()}b"

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip(
            "-n",
            names[0],
            "link",
            "add",
            LINK,
            "type",
            "veth",
            "peer",
            "name",
            LINK,
            "netns",
            names[1],
        )
        for host, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"10.211.0.{host}/24", "dev", LINK)
            ip("-n", name, "link", "set", LINK, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)
