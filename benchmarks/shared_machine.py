"""How much longer an audit takes beside other busy programs.

    python benchmarks/shared_machine.py              # many minutes where threads spin

The audit of the demo, with `robustness` and `masking` on 20 digits, runs alone and beside two
processes that do nothing but compute, each time as a new process with what the command line sets by
itself (`utils.threads`) and with OpenMP's own policy. Times are wall times, the shorter of two.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from page import table
from scotoma.demo import MODEL, THREAT
from scotoma.utils.threads import POLICY

COMMAND = (sys.executable, "-m", "scotoma", "audit", str(MODEL), "--data", "digits")
OPTIONS = ("--threat", str(THREAT), "--limit", "20", "--probes", "robustness,masking")
OWN, SPINNING = "as the command line sets it", "threads that spin"
SETTLED = 20.0
"""Seconds after which the mean load tells that two programs run."""


@contextmanager
def busy(programs: int) -> Iterator[None]:
    """Run programs that take a core each."""
    running = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)
    ]
    try:
        if programs:
            time.sleep(SETTLED)
        yield
    finally:
        for each in running:
            each.kill()


def seconds(spinning: bool) -> float:
    """Return the wall time of the audit, the shorter of two."""
    environment = {name: value for name, value in os.environ.items() if name != POLICY}
    if spinning:
        environment[POLICY] = "ACTIVE"
    taken = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            command = [*COMMAND, *OPTIONS, "--out", folder]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            taken.append(time.monotonic() - began)
    return min(taken)


def main() -> None:
    """Print the table."""
    found: dict[str, list[float]] = {OWN: [], SPINNING: []}
    for programs in (0, 2):
        with busy(programs):
            for name, times in found.items():
                times.append(seconds(spinning=name == SPINNING))
    rows = [
        (name, f"{alone:.1f} s", f"{beside:.1f} s", f"{beside / alone:.1f}")
        for name, (alone, beside) in found.items()
    ]
    print(table(("threads", "alone", "beside two programs", "ratio"), rows))


if __name__ == "__main__":
    main()
