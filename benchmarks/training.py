"""Adversarial training beside a plain loop that is written from the paper."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from harness import LINF, Options
from measuring import clock
from page import Section
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.models import ARCHITECTURES
from scotoma.training.evaluation import Evaluation, evaluate
from scotoma.training.loop import Schedule, train
from scotoma.utils.device import default_device

ENOUGH, ARCH = 0.85, "wong-small"
Note = Callable[[Evaluation], None]
"""Takes the evaluation after an epoch."""


def training(options: Options, recipe: str = "pgd", epochs: int = 4, rate: float = 3e-3) -> Section:
    """Time to a robust network beside a plain loop, each until it is robust enough or ends."""
    data, schedule = load_data("mnist", options.data_root), Schedule(epochs=epochs, peak=rate)
    torch.set_num_threads(options.threads)

    def with_recipe(note: Note) -> None:
        with tempfile.TemporaryDirectory() as made:
            out = Path(made) / "model.safetensors"
            train(recipe, data, ARCH, LINF, out, schedule=schedule, log=note)

    rows, plain = [], 0.0
    plainly = partial(plain_loop, data, schedule)
    for name, run in (("plain loop", plainly), (recipe, with_recipe)):
        log = noted(run)
        count = next((i for i, (robust, _) in enumerate(log, 1) if robust >= ENOUGH), len(log))
        accuracy, seconds = log[count - 1]
        plain = plain or seconds
        values = f"{accuracy:.1%}", f"{count}", f"{seconds:.0f}", f"{seconds / plain:.2f}"
        rows.append([name, "", *values])
    intro = (
        f"`{recipe}` training of `wong-small` on MNIST at {LINF} until {ENOUGH:.0%} of the first "
        "1,000 test images withstand PGD-20, evaluated after every epoch, beside Madry et al. "
        "2018 written down: equal network, batches, rates and rise of eps."
    )
    heads = ["training", "", "PGD-20 accuracy", "epochs", "seconds", "time, ratio"]
    return Section(intro, heads, rows)


def noted(run: Callable[[Note], None]) -> list[tuple[float, float]]:
    """Robust accuracy after each epoch of a training, and the seconds until then."""
    log, start = list[tuple[float, float]](), clock()

    def note(seen: Evaluation) -> None:
        log.append((seen.robust_accuracy or 0.0, clock() - start))
        print("  {:.1%} after {:.0f} s".format(*log[-1]), flush=True)

    run(note)
    return log


def plain_loop(data: Dataset, schedule: Schedule, note: Note) -> None:
    """PGD-7 from a random start at every step, Adam, float32; eps rises as in our recipe."""
    assert data.train is not None
    torch.manual_seed(0)
    device = default_device()
    model = ARCHITECTURES[ARCH](data.shape, len(data.classes)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.peak)
    for epoch in range(schedule.epochs):
        model.train()
        batches = torch.randperm(len(data.train)).split(schedule.batch)
        for number, rows in enumerate(batches):
            progress = (epoch + number / len(batches)) / schedule.epochs
            optimizer.param_groups[0]["lr"] = schedule.rate(progress)
            images, labels = data.train.images(rows).to(device), data.train.labels[rows].to(device)
            eps = LINF.eps * min(1.0, progress / 0.3)
            x = (images + eps * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
            for _ in range(7):
                x.requires_grad_()
                (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), labels), x)
                x = x.detach() + 2.5 * eps / 7 * gradient.sign()
                x = torch.min(torch.max(x, images - eps), images + eps).clamp(0, 1)
            optimizer.zero_grad()
            F.cross_entropy(model(x.detach()), labels).backward()
            optimizer.step()
        seen = evaluate(model, data.test, LINF, device)
        note(seen)
        if (seen.robust_accuracy or 0.0) >= ENOUGH:
            break
