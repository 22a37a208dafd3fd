"""The demo: train a small robust model on the embedded digits and audit it."""

from __future__ import annotations

from pathlib import Path

from scotoma.auditing import audit
from scotoma.claim import Threat
from scotoma.data import load_data
from scotoma.results.report import Report
from scotoma.training.loop import Schedule, train
from scotoma.utils.progress import Progress

THREAT = Threat("linf", 0.1)
SCHEDULE = Schedule(epochs=60, batch=64, peak=2e-3)


def demo(out: Path, seed: int = 0) -> Report:
    """Train `small-cnn` with PGD on the digits, audit it with all probes, print the verdicts."""
    data = load_data("digits")
    model = out.parent / f"digits-pgd-seed{seed}.safetensors"
    progress = Progress()
    if not model.exists():
        total = -(-len(data.train or ()) // SCHEDULE.batch) * SCHEDULE.epochs
        with progress.bar("training small-cnn with PGD on the digits", total) as advance:
            train(
                "pgd", data, "small-cnn", THREAT, model, schedule=SCHEDULE, seed=seed, step=advance
            )
    report = audit(str(model), data, THREAT, out=out, seed=seed, progress=progress)
    report.show()
    return report
