"""What a model is, in one block, with the first thing to fix."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from scotoma.data.dataset import Dataset
from scotoma.models.black_box import Function, is_black_box
from scotoma.models.checking import Checks, check, device
from scotoma.models.classifier import Classifier, LogProbabilities, own_module
from scotoma.models.diagnosis import Diagnosis, diagnose
from scotoma.models.features import default_layer
from scotoma.models.preparation import Prepared
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.text import counted

LAYERS = 8
"""Layers that are named, beside the one that probes use."""
TIMED = 1.0
"""Seconds after which no further pass is timed."""
BATCH = 16


def inspect(model: Classifier, data: Dataset, threat: Threat | None = None) -> dict[str, str]:
    """Return what a model is and does with images of a data set, by heading.

    The last heading is "first", the first thing to fix.

    Args:
        model: as `load_model` returns it.
        data: test images and labels.
        threat: perturbations whose size is put into other units.

    Raises:
        InputError: the model does not take these images (`Classifier.checked`).

    >>> from scotoma.data import load_data
    >>> from scotoma.models.loading import load_model
    >>> net = load_model(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    >>> inspect(net, load_data("digits"))["parameters"]
    '650 in 2 tensors'
    """
    checked = model.checked(data)
    module = own_module(checked.module)
    checks = check(module, model.name, data)
    result = diagnose(checked, data)
    images = counted(result.images, "test image")
    block = {
        "model": f"{model.name} ({type(module).__name__}), sha256 {model.sha256[:12]}",
        "parameters": _parameters(module),
        "input": _input(checked, data),
        "pixels": _pixels(module),
        "accuracy": f"{result.correct} of {images} (chance: {result.chance:.1f})",
        "other pixels": "; ".join(f"{count} {name}" for name, count in result.scales.items()),
        "outputs": _outputs(checked, checks, data),
        "gradient": _gradient(checked, checks),
        "features": _features(module, data),
        "speed": _speed(checked.module, data),
        **({"notes": " ".join(checked.notes)} if checked.notes else {}),
    }
    if threat is not None:
        block["threat"] = _size(threat, data)
    block["first"] = next(_to_fix(checked, checks, result, data, threat), "Nothing to fix.")
    return block


def _to_fix(
    model: Classifier, checks: Checks, result: Diagnosis, data: Dataset, threat: Threat | None
) -> Iterator[str]:
    """Yield what to fix, the most important first."""
    if result.cause:
        yield result.cause
    if result.at_chance:
        yield "The model is no better than chance: check its weights and the order of its classes."
    if threat is not None and threat.norm == "linf" and threat.eps >= 0.9:
        eps = f"{threat.eps:g}"
        yield f"eps {eps} lets every pixel become black or white: pixels lie in [0, 1]; {eps}/255?"
    black = is_black_box(model.module)
    if checks.probabilities or (black and getattr(model.module, "outputs", "") == "probabilities"):
        yield "Return logits, not probabilities: gradients vanish where these are nearly 0 or 1."
    elif checks.bounded and not black:
        yield "Outputs lie in [0, 1], as after a sigmoid, which rounds to 1: return what enters it."
    if checks.batched:
        yield "Predictions depend on the other images of a batch: then no rate is an image's own."
    if checks.gradient != "yes" and not is_black_box(model.module):
        yield f"The gradient by the images is {_gradient(model, checks)}: attacks cannot follow it."
    if checks.logits.shape[1] > len(data.classes):
        yield (
            f"It has {checks.logits.shape[1]} outputs for {data.counted}: labels must be "
            "numbers of its outputs."
        )
    if model.input is not None and model.input.size != data.shape[1:]:
        yield f"Images are resized inside the model, from {_sides(data.shape[1:])} pixels."


def _parameters(module: nn.Module) -> str:
    if isinstance(module, Function):
        return "unknown, since it is no torch module"
    sizes = [value.numel() for value in module.parameters()]
    return f"{_count(sum(sizes))} in {len(sizes)} tensors"


def _input(model: Classifier, data: Dataset) -> str:
    text = f"{'x'.join(map(str, data.shape))} from {data.name}"
    if model.input is None:
        return text
    size = _sides(model.input.size)
    return f"{text}; its configuration asks for {size} ({model.input})"


def _pixels(module: nn.Module) -> str:
    if isinstance(module, Function):
        low, high = module.range or (0, 1)
        return f"the black box gets values from {low:g} to {high:g}"
    for part in module.modules():
        if isinstance(part, Prepared):
            mean, std = (
                ", ".join(f"{value:.4g}" for value in each.flatten().tolist())
                for each in (part.mean, part.std)
            )
            return f"[0, 1], normalised inside (mean {mean}; std {std})"
    return "[0, 1]; what the module does with them is its own"


def _outputs(model: Classifier, checks: Checks, data: Dataset) -> str:
    low, high = float(checks.logits.min()), float(checks.logits.max())
    kind = "probabilities" if isinstance(model.module, LogProbabilities) else "logits"
    text = f"{checks.logits.shape[1]} {kind} from {low:.3g} to {high:.3g} for {data.counted}"
    if model.classes:
        text += f"; {', '.join(model.classes[:3])}{', ...' if len(model.classes) > 3 else ''}"
    return text


def _gradient(model: Classifier, checks: Checks) -> str:
    if is_black_box(model.module):
        return "no, a black box: attacks estimate it from answers or go by decisions"
    words = {"yes": "yes", "missing": "no", "zeros": "only zeros", "NaN": "NaN"}
    return words[checks.gradient]


def _features(module: nn.Module, data: Dataset) -> str:
    if is_black_box(module):
        return "logits and pixels alone, since a black box has no layers"
    image = data.test.images(torch.arange(1)).to(device(module))
    try:
        default = default_layer(module, image)
    except InputError:
        default = "logits"
    sizes = _layers(module, image)
    others = ", ".join(f"{name} ({_count(size)})" for name, size in sizes.items())
    return f"{default}; also {others}" if others else default


def _layers(module: nn.Module, image: Tensor) -> dict[str, int]:
    """Return names of some layers that `features` can use, and how many values each has."""
    parts = dict(module.named_children())
    while 0 < len(parts) < LAYERS // 2:  # one that wraps all the others says little
        name = max(parts, key=lambda each: sum(p.numel() for p in parts[each].parameters()))
        inside = dict(parts[name].named_children())
        if not inside:
            break
        del parts[name]
        parts |= {f"{name}.{child}": part for child, part in inside.items()}
    sizes: dict[str, int] = {}

    def note(name: str, _module: nn.Module, _inputs: object, value: object) -> None:
        if isinstance(value, Tensor) and value.ndim and len(value) == 1:
            sizes[name] = value.numel()

    try:
        with ExitStack() as hooks, torch.no_grad():
            for name, part in parts.items():
                hooks.enter_context(part.register_forward_hook(partial(note, name)))
            module(image)
    except RuntimeError:  # TorchScript modules take no hooks
        return {}
    return dict(list(sizes.items())[-LAYERS:])


def _speed(module: nn.Module, data: Dataset) -> str:
    images = data.test.images(torch.arange(min(BATCH, len(data.test)))).to(device(module))

    def rate(one_pass: Callable[[], None]) -> float:
        begin, passes = time.perf_counter(), 0
        while time.perf_counter() - begin < TIMED and passes < 20:
            one_pass()
            passes += 1
        return passes * len(images) / (time.perf_counter() - begin)

    def forward() -> None:
        with torch.no_grad():
            module(images)

    def both() -> None:
        leaf = images.clone().requires_grad_()
        with torch.enable_grad():
            logits = module(leaf)
            if logits.requires_grad:
                torch.autograd.grad(logits.float().amax(1).sum(), leaf, allow_unused=True)

    forward()  # the first pass allocates
    text = f"{rate(forward):,.0f} images a second"
    if not is_black_box(module):
        text += f", {rate(both):,.0f} with gradients"
    threads = torch.get_num_threads()
    return f"{text} (batch {len(images)}, {threads} thread{'s' if threads > 1 else ''})"


def _size(threat: Threat, data: Dataset) -> str:
    if threat.norm == "linf":
        return f"{threat}: each value changes by up to {threat.eps * 255:.3g} of 255 grey levels"
    if threat.norm == "l2":
        spread = threat.eps / math.sqrt(math.prod(data.shape))
        return f"{threat}: {spread * 255:.3g} of 255 grey levels if spread over all values"
    return str(threat)


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} million" if number >= 1e6 else f"{number:,}"


def _sides(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
