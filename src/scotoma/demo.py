"""The demo: audit a small robust model of the embedded digits, which comes with the package."""

from __future__ import annotations

from pathlib import Path

from scotoma.auditing import audit
from scotoma.data import Dataset, load_data
from scotoma.results.report import Report
from scotoma.threat import Threat
from scotoma.training.loop import Schedule, train
from scotoma.utils.cache import SHIPPED
from scotoma.utils.progress import Progress

THREAT = Threat("linf", 0.1)
SCHEDULE = Schedule(epochs=60, batch=64, peak=2e-3)
MODEL = SHIPPED / "digits-pgd.safetensors"


def demo(out: Path, seed: int, anew: bool, limit: int) -> Report:
    """Audit a `small-cnn` of the digits with all probes and print the verdicts.

    Args:
        seed: seed of the audit, and of the training.
        anew: train the network with PGD, beside the run folder `out`, in place of the one that
            comes with the package.
        limit: number of test images.
    """
    data, progress, model = load_data("digits"), Progress(), MODEL
    if anew:
        model = out.parent / f"digits-pgd-seed{seed}.safetensors"
        if not model.exists():
            fit(data, model, seed, progress)
    report = audit(str(model), data, THREAT, out=out, seed=seed, limit=limit, progress=progress)
    report.show()
    return report


def fit(data: Dataset, out: Path, seed: int, progress: Progress) -> None:
    """Train the network of the demo."""
    total = -(-len(data.train or ()) // SCHEDULE.batch) * SCHEDULE.epochs
    with progress.bar("training small-cnn with PGD on the digits", total) as advance:
        train(
            "pgd",
            data,
            "small-cnn",
            THREAT,
            out,
            schedule=SCHEDULE,
            seed=seed,
            half=True,
            step=advance,
        )
