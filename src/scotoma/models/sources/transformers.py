"""Image classifiers of the library transformers, from the Hugging Face hub or a folder."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from scotoma.data.input import InputSpec, Interpolation
from scotoma.models.classifier import Classifier
from scotoma.models.preparation import Prepared
from scotoma.models.sources.opening import Opening, one_line
from scotoma.utils.errors import InputError
from scotoma.utils.network import hub_if_reachable, in_cache
from scotoma.utils.optional import require

RESAMPLE: Sequence[Interpolation] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Filters in the order of Pillow's numbers."""
WARPED = 384
"""Side from which ConvNeXt's processor no longer crops."""
TOLERANCE = 3 / 255
"""Difference of pixels in [0, 1] that the processor's rounding to 8 bits explains: it rounds after
each of the two directions in which it resizes."""


def transformers(rest: str, opening: Opening) -> Classifier:
    """OWNER/NAME[@REVISION] or a folder: an image classifier of transformers with its processor."""
    spec = f"hf:{rest}"
    opening.only(spec)
    source, revision, name = _place(rest)
    local = Path(source).is_dir()
    with contextlib.nullcontext(True) if local else hub_if_reachable() as online:
        if not online and not in_cache(source, revision):
            raise InputError(
                f"{spec}: the hub cannot be reached, and its cache has no such model; check the "
                "name and the network, or give the folder of a model"
            )
        network, processor, config = _opened(spec, source, revision, opening.trust)
    channels = getattr(config, "num_channels", 3)
    module = _prepared(network, processor, channels, spec)
    labels = config.id2label
    classes = tuple(str(labels[number]) for number in range(len(labels)))
    names = None if classes[0] == "LABEL_0" else classes
    return Classifier.of(module, name, classes=names, input=module.spec)


def _opened(spec: str, source: str, revision: str | None, trust: bool) -> tuple[Any, Any, Any]:
    """Return the network, its processor and its configuration."""
    require("transformers", "model hf:NAME")
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

    shared: dict[str, Any] = {"revision": revision, "trust_remote_code": trust}
    with _quiet(), _explained(spec, trust):
        config: Any = AutoConfig.from_pretrained(source, **shared)
        factory: Any = AutoModelForImageClassification
        if type(config) not in factory._model_mapping:
            architectures = ", ".join(getattr(config, "architectures", None) or [config.model_type])
            raise InputError(f"{spec}: {architectures} is no image classifier")
        processor = AutoImageProcessor.from_pretrained(source, **shared)
        network = AutoModelForImageClassification.from_pretrained(
            source, use_safetensors=None if trust else True, **shared
        )
    return network.float(), processor, config  # weights may be stored in 16 bits


def _place(rest: str) -> tuple[str, str | None, str]:
    """Return where a model is, its revision, and its name for reports."""
    path = Path(rest).expanduser()
    if path.is_dir():
        return str(path), None, path.resolve().name
    if rest.startswith((".", "/", "~")) or rest.count("/") > 1:
        raise InputError(f"hf:{rest}: {'is a file' if path.exists() else 'no such folder'}")
    source, _, revision = rest.partition("@")
    return source, revision or None, rest


def _prepared(network: nn.Module, processor: Any, channels: int, spec: str) -> Prepared:
    """Return the network behind what its processor does with images.

    Resizing and crop are read from the processor's settings. What it does with colours is measured
    on plain images. Both are compared with the processor on another image.

    Raises:
        InputError: the processor does something else.
    """
    input_spec = _read_spec(processor, spec)
    with one_line(spec):
        black, *pure = (
            _processed(processor, input_spec.size, channels, bright)
            for bright in (None, *range(channels))
        )
    gains = np.stack(pure) - black  # gains[i, j]: channel j of the network by channel i of images
    order = np.abs(gains).argmax(0)
    scale = gains[order, range(channels)]
    if not np.all(scale) or np.abs(gains).sum() > np.abs(scale).sum() * 1.001:
        raise InputError(f"{spec}: its processor mixes colours, which cannot be moved into a model")
    module = Prepared(
        network,
        input_spec,
        (-black / scale).round(6).tolist(),
        (1 / scale).round(6).tolist(),
        order.tolist(),
    )
    _compare(module, processor, channels, spec)
    return module


def _read_spec(processor: Any, spec: str) -> InputSpec:
    """Return resizing and crop as a processor's settings say them."""
    size, cut = _sizes(processor, "size"), _sizes(processor, "crop_size")
    resizes = getattr(processor, "do_resize", False)
    crop = cut.get("exact") if getattr(processor, "do_center_crop", False) else None
    resize: int | tuple[int, int] | None = None
    if resizes:
        resize = size.get("exact") or size.get("short")
        share = getattr(processor, "crop_pct", None)
        kind = type(processor).__name__
        if isinstance(resize, int) and kind.startswith("Levit"):
            resize = int(256 / 224 * resize)
        elif share and isinstance(resize, int) and kind.startswith("ConvNext"):
            side = resize
            resize = (side, side) if side >= WARPED else int(side / share)
            crop = None if side >= WARPED else (side, side)
        elif share and resize:
            side = resize if isinstance(resize, int) else resize[0]
            resize = int(side / share)
        if resize is None:
            raise InputError(f"{spec}: its processor resizes to {processor.size}, which is unknown")
    final = crop or resize or size.get("exact")
    if final is None:
        raise InputError(f"{spec}: its processor names no size of images")
    square = (final, final) if isinstance(final, int) else final
    return InputSpec(square, resize, crop, RESAMPLE[int(getattr(processor, "resample", None) or 2)])


def _sizes(processor: Any, name: str) -> dict[str, Any]:
    """Return "exact" (height, width) or "short", the length of the shorter side."""
    setting = getattr(processor, name, None)
    if isinstance(setting, int):
        return {"short": setting}
    sides = {key: getattr(setting, key, None) for key in ("height", "width", "shortest_edge")}
    if isinstance(setting, dict):
        sides = {key: setting.get(key) for key in sides}
    if sides["height"] and sides["width"]:
        return {"exact": (sides["height"], sides["width"])}
    return {"short": sides["shortest_edge"]} if sides["shortest_edge"] else {}


def _processed(
    processor: Any, size: tuple[int, int], channels: int, bright: int | None
) -> np.ndarray:
    """Return the middle of a processed black image with one channel white, float64 (channels,)."""
    image = np.zeros((*size, channels), np.uint8)
    if bright is not None:
        image[:, :, bright] = 255
    values = _run(processor, image)
    return values[:, values.shape[1] // 2, values.shape[2] // 2].astype(np.float64)


def _run(processor: Any, image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0])
    (values,) = processor(images=[picture], return_tensors="np")["pixel_values"]
    return np.asarray(values)


def _compare(module: Prepared, processor: Any, channels: int, spec: str) -> None:
    """Raise `InputError` if the module does not do with images what the processor does."""
    height, width = module.spec.size
    shape = (height * 5 // 4 + 3, width * 3 // 2 + 2)
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (8, 8, channels), np.uint8)
    across = (shape[1], shape[0])
    layers = [Image.fromarray(coarse[:, :, c]).resize(across, 2) for c in range(channels)]
    image = np.stack([np.asarray(layer) for layer in layers], 2)
    with one_line(spec):
        expected = torch.from_numpy(_run(processor, image))
    with torch.no_grad():
        actual = module.prepare(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0]
    if actual.shape == expected.shape:
        worst = float(((actual - expected) * module.std[0]).abs().max())
        if worst <= TOLERANCE:
            return
        fault = f"values differ by up to {worst:.3g} of the range of pixels"
    else:
        fault = f"it makes {tuple(expected.shape)} of an image, the module {tuple(actual.shape)}"
    raise InputError(
        f"{spec}: {type(processor).__name__} does more than resize, crop and normalise ({fault}); "
        "write a module around the network and audit file.py:FUNCTION"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence progress bars, advice and warnings of the library."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _explained(spec: str, trusted: bool) -> Iterator[None]:
    """Turn what the library raises into one line that says what to do."""
    try:
        with one_line(spec):
            yield
    except InputError as error:
        text = str(error)
        missing = "safetensors" in text and "cannot be opened" in text
        if missing and not trusted:
            raise InputError(
                f"{spec}: has no model.safetensors, and other weights can run code when they are "
                "opened; if you trust it, add trust_pickle=True"
            ) from None
        raise
