"""Honest classifiers for `false_alarms.py`: none of them hides its gradient, and each is quick."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scotoma.data.dataset import Dataset
from scotoma.models.resnet import Residual
from scotoma.threat import Threat
from scotoma.training import AUGMENTATIONS
from scotoma.training.pgd import PGDTraining

CLASSES = 10
FEW = 3000
"""Training images of a large data set."""
BATCH = 128


class Function(nn.Module):
    """A function as a layer, with the modules that it uses."""

    def __init__(self, function: Callable[[Tensor], Tensor], *modules: nn.Module):
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def attention(width: int) -> Function:
    """Self-attention of tokens (n, tokens, width) in two heads."""
    heads = nn.MultiheadAttention(width, 2, batch_first=True)
    return Function(lambda x: heads(x, x, x, need_weights=False)[0], heads)


def weighted(channels: int) -> Function:
    """Channels times a hard sigmoid of their means (squeeze and excitation)."""
    weigh = nn.Conv2d(channels, channels, 1)
    return Function(lambda x: x * F.hardsigmoid(weigh(x.mean((2, 3), keepdim=True))), weigh)


class Swish(torch.autograd.Function):
    """x sigmoid(x) with a backward pass of its own, which keeps x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        share = x.sigmoid()
        return gradient[0] * share * (1 + x * (1 - share))


Layer = Callable[..., nn.Module]
Build = Callable[[int], nn.Module]
"""From the side of the images, of one channel, to a network."""


def mlp(*widths: int, act: Layer = nn.ReLU, norm: Layer = nn.Identity, dropout: float = 0) -> Build:
    """Dense layers of these widths."""

    def build(side: int) -> nn.Sequential:
        layers: list[nn.Module] = [nn.Flatten()]
        sizes = [side * side, *widths]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), norm(after), act(), nn.Dropout(dropout)]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], CLASSES))

    return build


def conv(
    side: int,
    width: int = 8,
    act: Layer = nn.ReLU,
    norm: Layer = nn.Identity,
    pool: Layer = nn.MaxPool2d,
    then: Layer = nn.Identity,
    input: tuple[nn.Module, ...] = (),
    output: tuple[nn.Module, ...] = (),
) -> nn.Sequential:
    """Two convolutions with pooling and a dense layer, with layers before and after them."""
    wide, last = 2 * width, 2 * width * (side // 4) ** 2
    first = [nn.Conv2d(1, width, 3, padding=1), norm(width), act(), pool(2)]
    second = [nn.Conv2d(width, wide, 3, padding=1), norm(wide), act(), pool(2)]
    end = [nn.Flatten(), nn.Linear(last, CLASSES)]
    return nn.Sequential(*input, *first, *second, then(wide), *end, *output)


def residual(side: int, blocks: int = 2, norm: Layer = nn.BatchNorm2d) -> nn.Sequential:
    """A small residual net with a mean over positions at the end."""
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, stride=max(1, side // 8), padding=1)]
    for _ in range(blocks):
        inner = nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)
        layers += [Residual(nn.Sequential(norm(16), nn.ReLU(), *inner))]
    end = nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, CLASSES)
    return nn.Sequential(*layers, norm(16), *end)


def transformer(side: int, blocks: int = 1, width: int = 32) -> nn.Sequential:
    """A small vision transformer on 16 patches, without positions in the tokens but in the end."""
    patch = side // 4
    layers: list[nn.Module] = [nn.Conv2d(1, width, patch, stride=patch), nn.Flatten(2)]
    layers += [Function(lambda x: x.transpose(1, 2))]
    for _ in range(blocks):
        feed = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        layers += [Residual(nn.Sequential(nn.LayerNorm(width), attention(width)))]
        layers += [Residual(nn.Sequential(nn.LayerNorm(width), *feed))]
    return nn.Sequential(*layers, nn.LayerNorm(width), nn.Flatten(), nn.Linear(16 * width, CLASSES))


def ensemble(side: int) -> Function:
    """The mean of the logits of three networks."""
    networks = mlp(64)(side), mlp(96, act=nn.GELU)(side), conv(side, 4)
    return Function(lambda x: torch.stack([each(x) for each in networks]).mean(0), *networks)


def checkpointed(side: int) -> Function:
    """A network whose activations are computed again in the backward pass."""
    body = mlp(64, 64)(side)

    def run(x: Tensor) -> Tensor:
        return checkpoint(body, x, use_reentrant=False)  # type: ignore[return-value]

    return Function(run, body)


@dataclass(frozen=True)
class Honest:
    """How a classifier is made.

    Args:
        build: returns the network.
        threat: the threat of the look, and of the training if it is adversarial.
        adversarial: share of each batch that is replaced by images of PGD.
        data: name of the data set.
        epochs, rate, decay, smoothing: of the training; weight decay and label smoothing.
        mixup: whether each image is mixed with another one.
        augment: name of an augmentation.
    """

    build: Build
    threat: str = "linf:0.1"
    adversarial: float = 0.0
    data: str = "digits"
    epochs: int = 15
    rate: float = 3e-3
    decay: float = 0.0
    smoothing: float = 0.0
    mixup: bool = False
    augment: str = ""

    def train(self, data: Dataset, seed: int) -> nn.Module:
        """Return the trained network in eval mode."""
        torch.manual_seed(seed)
        random = torch.Generator().manual_seed(seed)
        train = data.train
        assert train is not None
        model = self.build(data.shape[-1])
        images, labels = train.images(torch.arange(min(FEW, len(train)))), train.labels[:FEW]
        change = AUGMENTATIONS[self.augment]() if self.augment else None
        recipe = PGDTraining(Threat.parse(self.threat), steps=5)
        optimizer = torch.optim.AdamW(model.parameters(), self.rate, weight_decay=self.decay)
        for epoch in range(self.epochs):
            for rows in torch.randperm(len(images), generator=random).split(BATCH):
                x, y = images[rows], labels[rows]
                x = change(x, random) if change else x
                part = round(self.adversarial * len(x))
                if part:
                    progress = epoch / self.epochs
                    model.eval()
                    made = recipe.perturb(model, x[:part], y[:part], progress, random)
                    model.train()
                    x = torch.cat([made, x[part:]])
                targets = F.one_hot(y, CLASSES).float()
                if self.mixup:
                    share = torch.rand(len(x), 1, generator=random)
                    other = torch.randperm(len(x), generator=random)
                    x = share[:, :, None, None] * x + (1 - share)[:, :, None, None] * x[other]
                    targets = share * targets + (1 - share) * targets[other]
                loss = F.cross_entropy(model(x), targets, label_smoothing=self.smoothing)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return model.requires_grad_(False).eval()


def pgd(build: Build, eps: float | str, **more: Any) -> Honest:
    threat = eps if isinstance(eps, str) else f"linf:{eps}"
    return Honest(build, threat, **{"adversarial": 1.0, "epochs": 20, **more})


normalised = Function(lambda x: (x - 0.3) / 0.35)
clamped = Function(lambda x: x.clamp(0, 1))
scaled = Function(lambda x: torch.where(x > 1.5, x / 255, x))
"""Bytes to [0, 1], as a careful author writes it."""
enlarged = Function(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"))
shifted = Function(lambda logits: logits - logits.detach().amax(1, keepdim=True))
"""Logits below 0, against overflow."""
group = partial(nn.GroupNorm, 4)
small = mlp(64)
wide = partial(conv, width=16)
ACTIVATIONS: dict[str, Layer] = {
    "ELU": nn.ELU,
    "GELU": nn.GELU,
    "SiLU": nn.SiLU,
    "leaky ReLU": nn.LeakyReLU,
    "ReLU6": nn.ReLU6,
    "hard swish": nn.Hardswish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "PReLU": nn.PReLU,
    "sine": lambda: Function(torch.sin),  # type: ignore[arg-type]
    "ReLU by a mask": lambda: Function(lambda x: x * (x > 0)),
    "leaky ReLU by where": lambda: Function(lambda x: torch.where(x > 0, x, 0.1 * x)),
    "own swish": lambda: Function(Swish.apply),  # type: ignore[arg-type]
}
SHARED = {
    "conv": Honest(conv, "linf:0.05"),
    "residual": Honest(residual, "linf:0.05", epochs=8),
    "transformer": Honest(transformer, "linf:0.05"),
    "conv, pgd 0.1": pgd(conv, 0.1, epochs=8),
    "conv, pgd 0.3": pgd(conv, 0.3, epochs=15),
    "dense, pgd 0.2": pgd(small, 0.2, epochs=15),
    "transformer, pgd 0.1": pgd(transformer, 0.1, epochs=10),
    "conv, half pgd 0.2": pgd(conv, 0.2, epochs=8, adversarial=0.5),
}
"""These are trained on MNIST too."""
HONEST: dict[str, Honest] = {
    "linear": Honest(mlp()),
    "dense 32": Honest(mlp(32)),
    "dense 512": Honest(mlp(512)),
    "dense, 4 layers": Honest(mlp(*[64] * 4)),
    "dense, 8 layers": Honest(mlp(*[64] * 8), epochs=25),
    "dense, layer norm": Honest(mlp(64, 64, norm=nn.LayerNorm)),
    "dense, batch norm": Honest(mlp(64, 64, norm=nn.BatchNorm1d)),
    "dense, dropout": Honest(mlp(128, 128, dropout=0.4)),
    "dense, tanh, 4 layers": Honest(mlp(*[64] * 4, act=nn.Tanh)),
    "dense, L2": Honest(small, "l2:0.7"),
    "conv, L2": Honest(conv, "l2:0.5"),
    **{
        f"conv, {name}": Honest(partial(conv, act=act), "linf:0.15")
        for name, act in ACTIVATIONS.items()
    },
    "conv 32": Honest(partial(conv, width=32)),
    "conv, average pool": Honest(partial(conv, pool=nn.AvgPool2d)),
    "conv, batch norm": Honest(partial(conv, norm=nn.BatchNorm2d)),
    "conv, group norm": Honest(partial(conv, norm=group)),
    "conv, instance norm": Honest(partial(conv, norm=nn.InstanceNorm2d)),
    "conv, weighted channels": Honest(partial(conv, then=weighted)),
    "residual, 4 blocks": Honest(partial(residual, blocks=4)),
    "residual, group norm": Honest(partial(residual, norm=group)),
    "transformer, 2 blocks": Honest(partial(transformer, blocks=2)),
    "ensemble": Honest(ensemble),
    "checkpointed": Honest(checkpointed),
    "normalised input": Honest(partial(wide, input=(normalised,))),
    "clamped input": Honest(partial(conv, input=(clamped,))),
    "clamped, normalised": Honest(partial(conv, input=(clamped, normalised))),
    "input of bytes or not": Honest(partial(conv, input=(scaled,))),
    "enlarged input": Honest(lambda side: conv(2 * side, input=(enlarged,))),
    "log of softmax": Honest(partial(conv, output=(nn.LogSoftmax(1),))),
    "shifted logits": Honest(partial(conv, output=(shifted,))),
    "label smoothing": Honest(conv, smoothing=0.1),
    "mixup": Honest(conv, mixup=True, epochs=25),
    "cutout": Honest(conv, augment="cutout", epochs=25),
    "scale and shift": Honest(conv, augment="scale-shift", epochs=25),
    "weight decay": Honest(conv, decay=0.5, epochs=25),
    "two epochs": Honest(conv, epochs=2),
    "300 epochs": Honest(mlp(128), epochs=300, rate=1e-2),
    "large eps": Honest(small, "linf:0.3"),
    "small eps": Honest(small, "linf:0.01"),
    "dense, pgd 0.05": pgd(small, 0.05),
    "dense, pgd 0.3": pgd(mlp(128), 0.3, epochs=30),
    "dense, GELU, pgd 0.2": pgd(mlp(64, 64, act=nn.GELU), 0.2),
    "dense, tanh, pgd 0.2": pgd(mlp(64, act=nn.Tanh), 0.2),
    "dense, ReLU by a mask, pgd 0.2": pgd(mlp(64, act=ACTIVATIONS["ReLU by a mask"]), 0.2),
    "conv, ReLU by a mask, pgd 0.2": pgd(
        partial(conv, act=ACTIVATIONS["ReLU by a mask"]), 0.2, epochs=10
    ),
    "dense, sine, pgd 0.2": pgd(mlp(64, act=ACTIVATIONS["sine"]), 0.2),
    "dense, pgd L2": pgd(small, "l2:1"),
    "conv, pgd L2": pgd(conv, "l2:0.7"),
    "conv, ReLU6, pgd 0.2": pgd(partial(conv, act=nn.ReLU6), 0.2),
    "conv, hard swish, pgd 0.2": pgd(partial(conv, act=nn.Hardswish), 0.2),
    "conv, clamped, pgd 0.3": pgd(partial(conv, input=(clamped,)), 0.3),
    "conv, batch norm, pgd 0.1": pgd(partial(conv, norm=nn.BatchNorm2d), 0.1),
    "residual, pgd 0.2": pgd(residual, 0.2, epochs=15),
    **SHARED,
    **{f"mnist, {name}": replace(each, data="mnist") for name, each in SHARED.items()},
}
