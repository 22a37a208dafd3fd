"""Attacks of later papers without a package here, written from their papers as we understand them.

They are marked * in the tables, so that nobody takes them for their authors' code.
"""

import math

import torch
from torch import Tensor, nn

from harness import Attack
from scotoma.attacks.apgd import APGD, APGDT
from scotoma.attacks.core.losses import fooled, margin
from scotoma.attacks.core.nearest import column, size
from scotoma.attacks.core.oracle import Oracle, select
from scotoma.attacks.deepfool import DeepFool
from scotoma.threat import Threat

DISCARDED = 0.1
"""Share of the images farthest from being fooled that A3 leaves with each further round."""


class ProbabilityMargin(APGD):
    """PMA as we understand it: Auto-PGD on the largest other probability less that of the label.

    Source: Xie and others 2024, "Towards million-scale adversarial robustness evaluation with
    stronger individual attacks".
    """

    @staticmethod
    def _loss(logits: Tensor, labels: Tensor, goals: Tensor) -> Tensor:
        return margin(logits.softmax(1), labels)


def malt(threat: Threat) -> Attack:
    """Return MALT as we understand it: targeted Auto-PGD towards the classes nearest by gradients.

    Of the 100 likeliest classes it takes the 9 with the smallest difference of logits divided by
    the dual norm of its gradient at the image.

    Source: Melamed, Yehudai and Vardi 2024, "MALT powers up adversarial attacks".
    """

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        oracle = Oracle(model, labels)
        wrong = oracle.logits(images).scatter(1, labels[:, None], -torch.inf)
        classes = wrong.topk(min(100, wrong.shape[1] - 1)).indices

        def leads(logits: Tensor, labels: Tensor) -> Tensor:
            return logits.gather(1, classes) - logits.gather(1, labels[:, None])

        slopes, behind, _ = oracle.jacobian(images, leads)
        steepness = slopes.flatten(2).norm(1 if threat.norm == "linf" else 2, dim=2)
        nearest = classes.gather(1, (-behind / steepness).argsort(1)[:, :9])

        class Towards(APGDT):
            def _goals(self, logits: Tensor, labels: Tensor) -> Tensor:
                return nearest

        return Towards(threat, steps=100)(model, images, labels)

    return run


def super_deepfool(rounds: int = 20, steps: int = 50) -> Attack:
    """Return SuperDeepFool: DeepFool for L2 with returns to the foot of the perpendicular.

    Each round follows DeepFool to the boundary, then goes to the foot of the perpendicular from the
    clean image on the boundary as linearised there, until that foot itself is fooled.

    Source: Abdollahpoorrostam, Abroshan and Moosavi-Dezfooli 2024, "SuperDeepFool: a new fast and
    accurate minimal adversarial attack".
    """
    plain = DeepFool("l2", steps, halvings=0, returns=0)

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        oracle, best, foot = Oracle(model, labels), images.clone(), images.clone()

        def keep(rows: Tensor, found: Tensor) -> None:
            old, new = (size(each - images[rows], "l2") for each in (best[rows], found))
            nearer = (old == 0) | (new < old)
            best[rows[nearer]] = found[nearer]

        for _ in range(rounds):
            if not len(oracle):
                break
            reached = plain(select(model, oracle.rows), foot, oracle.labels)
            moved = (reached != foot).flatten(1).any(1)
            oracle, reached = oracle.select(moved), reached[moved]
            keep(oracle.rows, reached)
            clean = images[oracle.rows]
            normal = oracle.value_and_grad(reached, margin).gradient
            along = ((reached - clean) * normal).flatten(1).sum(1)
            along /= normal.flatten(1).square().sum(1).clamp_min(1e-20)
            foot = (clean + column(along) * normal).clamp(0, 1)
            there = fooled(oracle.logits(foot), oracle.labels)
            keep(oracle.rows[there], foot[there])
            oracle, foot = oracle.select(~there), foot[~there]
        return best

    return run


def adaptive_auto_attack(threat: Threat, rounds: int = 6, steps: int = 50) -> Attack:
    """Return A3: PGD on the margin from starts that diversify the output, learnt from successes.

    A start ascends a random mixture of the logits for seven steps. In later rounds the weights of
    the label and of the strongest other class are drawn around those that led to success. Images
    that are farthest from being fooled are left, more of them each round, and the others get more
    steps, whose size falls with a cosine.

    Source: Liu and others 2022, "Practical evaluation of adversarial robustness via adaptive auto
    attack".
    """

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        adversarial, oracle = images.clone(), Oracle(model, labels)
        oracle = oracle.select(~oracle.fooled(images))
        generator = torch.Generator(images.device).manual_seed(0)
        learnt: list[Tensor] = []  # weights of the label and of the class that was reached
        for number in range(rounds):
            if not len(oracle):
                break
            clean, x = images[oracle.rows], images[oracle.rows]
            classes = oracle.logits(x).shape[1]
            weights = _uniform((len(x), classes), generator)
            second = oracle.logits(x).scatter(1, oracle.labels[:, None], -torch.inf).argmax(1)
            if learnt:
                mean = torch.cat(learnt).mean(0)
                for place, at in ((0, oracle.labels), (1, second)):
                    drawn = mean[place] + 0.5 * _uniform((len(x), 1), generator)
                    weights.scatter_(1, at[:, None], drawn)
            x = threat.project(x + threat.eps * _uniform(x.shape, generator), clean)
            length = steps * (number + 1) // 2
            best, done = torch.full((len(x),), -torch.inf), torch.zeros(len(x), dtype=torch.bool)
            for step in range(7 + length):
                opened = (~done).nonzero().squeeze(1)
                if not len(opened):
                    break
                mixture = weights[opened]

                def mixed(logits: Tensor, _: Tensor, mixture: Tensor = mixture) -> Tensor:
                    return (mixture * logits).sum(1)

                part = oracle.select(opened)
                at = part.value_and_grad(x[opened], mixed if step < 7 else margin)
                done[opened] = at.fooled
                if step >= 7:
                    best[opened] = torch.maximum(best[opened], at.loss)
                go = opened[~at.fooled]
                share = 1.0 if step < 7 else 0.5 + 0.5 * math.cos(math.pi * (step - 7) / length)
                move = threat.steepest(at.gradient[~at.fooled]).mul_(share)
                x[go] = threat.project(x[go] + move, clean[go])
            wrong = oracle.fooled(x)
            if bool(wrong.any()):
                reached = oracle.logits(x)[wrong].argmax(1)
                of_label = weights[wrong].gather(1, oracle.labels[wrong][:, None])
                learnt.append(torch.cat([of_label, weights[wrong].gather(1, reached[:, None])], 1))
                adversarial[oracle.rows[wrong]] = x[wrong]
            oracle, left = oracle.select(~wrong), best[~wrong]
            kept = math.ceil(len(left) * max(0.5, 1 - DISCARDED * number))
            oracle = oracle.select(left.argsort(descending=True)[:kept])
        return adversarial

    return run


def _uniform(shape: torch.Size | tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 2 * torch.rand(shape, generator=generator, device=generator.device) - 1
