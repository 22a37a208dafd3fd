"""About how long an audit will take, from the time of one pass and typical numbers of passes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from scotoma.attribution.occlusion import SETTINGS
from scotoma.attribution.ranking import ORDERS
from scotoma.execution.budget import spoken
from scotoma.execution.effort import TIMED, WHOLE, Effort, time_pass
from scotoma.execution.run import Run
from scotoma.probes.blindspots.definition import SCREENED, enough
from scotoma.probes.blindspots.grid import contrast_shifts, tints
from scotoma.probes.inequality.measurements import COLOURS, PAPER_SIDE
from scotoma.probes.inequality.probe import FEWEST_RADII, STRIDES
from scotoma.utils.text import counted

WORTH_SAYING = 60.0
"""Seconds from which an audit says beforehand how long it takes."""
ATTACK = (600.0, 490.0)
"""Forward passes alone, and forward passes with a backward pass, that the attack `strong` takes for
an image; those of other attacks are fewer."""
PASSES = {
    "robustness": (0.0, 0.0),
    "generated": (210.0, 190.0),
    "norms": (3600.0, 780.0),
    "inequality": (210.0, 60.0),
    "transfer": (30.0, 30.0),
    "masking": (370.0, 90.0),
}
"""Passes of each probe, as in `ATTACK`, beside the audit attack, which all share, and without those
that grow with the images. They were counted on 20 images of a network of MNIST that was trained
with PGD (docs/log.md)."""
PIXELS = 1.5
"""Forward passes of `pointwise` and `vfga` in `norms` for each pixel of the image."""
COVERED = 0.8
"""Share of the covers of `inequality` that are tried: an image leaves once one fools."""
LEAST = {"norms": (720.0, 200.0), "inequality": (125.0, 40.0), "masking": (330.0, 63.0)}
"""Minimum passes on a slow model, counted on photographs of 224x224 (docs/log.md)."""
ONCE = {"masking": 3362.0}
"""Forward passes for all images together, not counted in `PASSES`."""
CELL = 0.6
"""Share of an attack that a contrast shift takes, which leaves images fooled at alpha·eps."""
EMBEDDED, POINT = 10_000, 0.0035
"""Most images of each set that `divergence` embeds by t-SNE, and seconds an image."""


@dataclass(frozen=True)
class Forecast:
    """Estimated seconds of each probe, and the measurements behind them.

    Args:
        seconds: by probe; unknown ones are omitted.
        images: number of audited images.
        forward, backward: seconds of a forward pass of an image, and of one with a backward pass.
        thorough: seconds of all probes if they took all passes; None if they do.
    """

    seconds: dict[str, float]
    images: int
    forward: float
    backward: float
    thorough: float | None = None

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def __str__(self) -> str:
        """One line: the whole, and the probes that take most.

        >>> str(Forecast({"norms": 420.0, "masking": 30.0}, 50, 0.001, 0.003))
        'About 7 min for 50 images: norms 7 min, masking 30 s.'
        """
        longest = sorted(self.seconds.items(), key=lambda each: -each[1])
        times = ", ".join(f"{name} {_spoken(seconds)}" for name, seconds in longest)
        return (
            f"About {_spoken(self.total)} for {counted(self.images, 'image')}: {times}.{self._all}"
        )

    @property
    def _all(self) -> str:
        """What all passes would take, as a sentence."""
        if self.thorough is None:
            return ""
        return f" With all passes (--thorough) about {_spoken(self.thorough)}."

    def lines(self) -> list[str]:
        """Return a line a probe and one on the passes, for a terminal."""
        rows = [f"{name:<12}{_spoken(seconds)}" for name, seconds in self.seconds.items()]
        forward, backward = (f"{1000 * each:.2g} ms" for each in (self.forward, self.backward))
        passes = f"{forward} forward, {backward} with gradient"
        total = f"about {_spoken(self.total)} for {counted(self.images, 'image')}"
        if self.thorough is not None:
            rows.append(f"{'--thorough':<12}about {_spoken(self.thorough)}")
        return [*rows, f"{'together':<12}{total}", f"{'a pass':<12}{passes}, each image"]


def _spoken(seconds: float) -> str:
    return spoken(float(f"{seconds:.1g}") if seconds < 600 else seconds)


def forecast(run: Run, probes: Collection[str], effort: Effort | None = None) -> Forecast:
    """Return about how long the probes will take on the images of a run.

    One batch is timed. Attacks stop on an image once its outcome is known, and the training of
    small networks for comparison is not counted, so the forecast can be off by a factor of two or
    three. It distinguishes minutes from hours.

    Args:
        run: a run that may have measured nothing yet.
        probes: names of probes.
        effort: the share of their passes that probes take; None finds it from the timed batch.
    """
    batch = run.indices[: min(TIMED, run.batch_size)]
    forward, backward = (time_pass(run, batch, gradient) for gradient in (False, True))
    effort = effort or Effort.for_pass(backward.work)
    times = forward.wall, backward.wall
    seconds = _seconds(run, probes, effort, *times)
    thorough = None if effort.whole else sum(_seconds(run, probes, WHOLE, *times).values())
    return Forecast(seconds, len(run.indices), *times, thorough)


def _seconds(
    run: Run, probes: Collection[str], effort: Effort, forward: float, backward: float
) -> dict[str, float]:
    """Return the seconds of each probe, from those of a pass of an image."""
    n, data = len(run.indices), run.claim.data

    def duration(forwards: float, backwards: float) -> float:
        return n * (forwards * forward + backwards * backward)

    def passes(name: str) -> tuple[float, float]:
        grow = _growing(name, data.shape, effort)
        least = LEAST.get(name, (0.0, 0.0))
        forwards, backwards = (
            full if effort.whole else max(effort.share * full, fewest)
            for full, fewest in zip(PASSES[name], least, strict=True)
        )
        return forwards + grow + effort.share * ONCE.get(name, 0.0) / n, backwards

    train, test = (0 if split is None else len(split) for split in (data.train, data.test))
    audit_attack = duration(*ATTACK)
    seconds = {name: duration(*passes(name)) for name in probes if name in PASSES}
    if "blindspots" in probes:
        cells = len(contrast_shifts(data.name, data.shape)) - 1 + len(tints(data.shape))
        screened = min(test, SCREENED * n)
        attacks = cells * CELL * audit_attack if effort.whole or enough(screened) else 0.0
        seconds["blindspots"] = attacks + cells * screened * forward
    if "distance" in probes:
        seconds["distance"] = (train + 2 * n) * forward
    if "divergence" in probes and train:
        embedded = min(train, EMBEDDED) + min(test, EMBEDDED)
        seconds["divergence"] = embedded * (forward + POINT)
    if seconds:
        first = "robustness" if "robustness" in seconds else next(iter(seconds))
        seconds[first] += audit_attack
    return {name: seconds[name] for name in probes if name in seconds}


def _growing(name: str, shape: tuple[int, ...], effort: Effort) -> float:
    """Return the forward passes of a probe that grow with the size of an image."""
    height, width = shape[-2:]
    if name == "norms":
        return PIXELS * height * width if effort.whole else 0.0
    if name != "inequality":
        return 0.0
    stride = 1 if effort.whole else STRIDES.get(effort.share, FEWEST_RADII)
    radii = {
        (regions, max(1, round(radius * min(height, width) / PAPER_SIDE)))
        for regions, radius in SETTINGS
    }
    covers = sum(regions * -(-radius // stride) for regions, radius in radii)
    return COVERED * len(ORDERS) * COLOURS * covers
