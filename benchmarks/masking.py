"""How long the masking probe takes on MNIST, sources at hand: the target is three minutes for 500 images on two cores.

    python benchmarks/masking.py [--model zoo/mnist-pgd.safetensors] [--images 500]

A robust model is the slow case: the images that it holds stay in every attack to the end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

import scotoma
from scotoma.probes.masking.probe import Masking

ZOO = Path(__file__).parents[1] / "zoo"
TARGET = 180
IMAGES = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=str(ZOO / "mnist-pgd.safetensors"))
    parser.add_argument("--images", type=int, default=IMAGES)
    chosen = parser.parse_args()
    sources = [str(ZOO / f"{name}.safetensors") for name in ("tramer-b", "tramer-d")]
    with tempfile.TemporaryDirectory() as folder:
        wall, processor = time.perf_counter(), time.process_time()
        report = scotoma.audit(
            chosen.model,
            "mnist",
            "linf:0.3",
            out=folder,
            probes=[Masking(sources)],
            limit=chosen.images,
        )
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    passes = report.provenance["passes"]
    each = IMAGES / chosen.images
    print(
        f"{Path(chosen.model).stem}, {chosen.images} images, {torch.get_num_threads()} threads: {report['masking'].headline}"
    )
    print(
        f"attacks: {passes['forwards'] / chosen.images:.0f} forward and {passes['backwards'] / chosen.images:.0f} backward an image"
    )
    print(
        f"time {wall:.0f} s, processor {processor:.0f} s; for {IMAGES} images {wall * each:.0f} s (target {TARGET})"
    )


if __name__ == "__main__":
    main()
