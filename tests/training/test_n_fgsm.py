"""N-FGSM's images."""

from __future__ import annotations

import torch

from scotoma.claim import Threat
from scotoma.training.single_step import NoiseFGSM

THREAT = Threat("linf", 0.1)


def test_the_step_is_one_signed_gradient_from_the_noise(grey, linear_grey):
    images, labels = grey.test.images(torch.arange(20)), grey.test.labels[:20]
    noise = (
        THREAT.eps
        * 2
        * (2 * torch.rand(images.shape, generator=torch.Generator().manual_seed(3)) - 1)
    )
    made = NoiseFGSM(THREAT).perturb(
        linear_grey, images, labels, 0.9, torch.Generator().manual_seed(3)
    )
    step = made - (images + noise)
    leaf = (images + noise).requires_grad_()
    torch.nn.functional.cross_entropy(linear_grey(leaf), labels).backward()
    assert leaf.grad is not None
    assert torch.allclose(
        step, THREAT.eps * leaf.grad.sign(), atol=1e-6
    )  # corners are always black: no gradient there
    assert (leaf.grad != 0).float().mean() > 0.9


def test_eps_grows_over_the_warmup(grey, linear_grey):
    images, labels = grey.test.images(torch.arange(5)), grey.test.labels[:5]
    small = NoiseFGSM(THREAT, warmup=0.5).perturb(
        linear_grey, images, labels, 0.25, torch.Generator().manual_seed(0)
    )
    assert 0.9 * 0.15 < (small - images).abs().max() <= 0.15 + 1e-6
