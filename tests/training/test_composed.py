"""Training after random compositions: what is drawn, and in which balls the images are attacked."""

from __future__ import annotations

import torch

from scotoma.claim import Threat
from scotoma.training.transformed import FAMILIES, ComposedTraining
from scotoma.transforms.scale_shift import ScaleShift

THREAT = Threat("linf", 0.1)


def test_every_family_takes_part_and_contrast_comes_last():
    generator = torch.Generator().manual_seed(0)
    drawn = [ComposedTraining(THREAT, lowest=0.6).change(generator) for _ in range(100)]
    assert all(isinstance(change.parts[-1], ScaleShift) for change in drawn)
    kinds = [{type(part).__name__ for part in change.parts[:-1]} for change in drawn]
    named = {"Rotate", "Translate", "Blur", "Gamma", "Texture"}
    assert set.union(*kinds) == named
    assert len(FAMILIES.parts) == len(named)
    for name in named:
        assert 30 < sum(name in each for each in kinds) < 70
    assert min(change.contrast for change in drawn) < 0.6
    shifts = [part for change in drawn for part in change.parts if isinstance(part, ScaleShift)]
    assert 0.3 < sum(s.beta > (1 - s.alpha) / 2 - 1e-9 for s in shifts) / 100 < 0.6
