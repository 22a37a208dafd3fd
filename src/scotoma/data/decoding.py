"""Image files to pixels: the steps of torchvision's transforms on Pillow images."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

from scotoma.data.input import InputSpec
from scotoma.utils.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
DEEP = {"I;16", "I;16L", "I;16B"}
GREY = {"1", "L", "LA"} | DEEP
ORIENTATION = 0x0112
"""EXIF tag: 1 is upright, 5 to 8 exchange width and height."""


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image file say.

    Args:
        size: width and height of the upright image.
        grey: whether it has no colour.
        turned: whether EXIF data say that the stored pixels are not upright.
    """

    size: tuple[int, int]
    grey: bool
    turned: bool


def header(content: bytes, name: str) -> Header:
    """Return what the first bytes of an encoded image say; pixels are not decoded.

    Raises:
        InputError: it is no image, or has pixels of 32 bits.
    """
    try:
        with Image.open(BytesIO(content)) as image:
            size, mode = image.size, image.mode
            orientation = _orientation(image)
    except Exception as error:  # damaged files raise nearly anything
        raise InputError(f"{name}: cannot be read as an image ({type(error).__name__})") from None
    if mode in ("I", "F"):
        raise InputError(
            f"{name}: has pixels of 32 bits, whose range is unknown; save it with 8 or 16 bits"
        )
    upright = (size[1], size[0]) if orientation >= 5 else size
    return Header(upright, mode in GREY, orientation != 1)


def decode(content: bytes, name: str, recipe: InputSpec | None = None) -> np.ndarray:
    """Return the pixels of an encoded image, upright, resized and cropped.

    The first frame of an animation and the first page of a file are read, and transparency is
    dropped, as by Pillow's `convert("RGB")`.

    Args:
        content: the file.
        name: its name in errors.
        recipe: how it is resized and cropped; None leaves the size.

    Returns:
        uint8 (1 or 3, h, w), or float32 in [0, 1] for grey images of 16 bits.

    Raises:
        InputError: the file is damaged, or smaller than the crop.

    >>> file = BytesIO()
    >>> Image.new("L", (4, 2), 255).save(file, "PNG")
    >>> decode(file.getvalue(), "white", InputSpec((2, 2), resize=(2, 2))).tolist()
    [[[255, 255], [255, 255]]]
    """
    try:
        with Image.open(BytesIO(content)) as image:
            pixels = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
            deep = pixels.mode in DEEP
            if deep:  # Pillow would clip these at 255
                pixels = Image.fromarray(np.asarray(pixels, np.float32) / 65535)
            else:
                pixels = _plain(pixels)
            if recipe is not None:
                pixels = prepared(pixels, recipe, name)
            values = np.asarray(pixels)
    except InputError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        raise InputError(f"{name}: cannot be read as an image ({error})") from None
    if deep and recipe is not None:
        values = values.clip(0, 1)  # a bicubic filter overshoots
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def prepared(image: Image.Image, recipe: InputSpec, name: str = "image") -> Image.Image:
    """Return an image resized and cropped like torchvision's Resize and CenterCrop.

    Source: torchvision.transforms.functional, on Pillow images: the longer side becomes
    `int(size * long / short)`, and the crop begins at `round((length - crop) / 2)`.

    >>> prepared(Image.new("RGB", (500, 375)), InputSpec((224, 224), 256, (224, 224))).size
    (224, 224)
    """
    width, height = image.size
    if recipe.resize is not None:
        if isinstance(recipe.resize, tuple):
            goal = (recipe.resize[1], recipe.resize[0])
        else:
            short = min(width, height)
            goal = (int(recipe.resize * width / short), int(recipe.resize * height / short))
        if goal != (width, height):
            image = image.resize(goal, Image.Resampling[recipe.interpolation.upper()])
        width, height = goal
    if recipe.crop is not None:
        rows, columns = recipe.crop
        if rows > height or columns > width:
            raise InputError(
                f"{name}: is {width}x{height} pixels, less than the crop of {columns}x{rows}; "
                f"add resize={max(rows, columns)}"
            )
        left, top = round((width - columns) / 2), round((height - rows) / 2)
        image = image.crop((left, top, left + columns, top + rows))
    return image


def _orientation(image: Image.Image) -> int:
    if "exif" not in image.info and image.format not in ("TIFF", "MPO"):
        return 1
    orientation = image.getexif().get(ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _plain(image: Image.Image) -> Image.Image:
    """Return a grey image, or one of three channels."""
    if image.mode in GREY:
        return image.convert("L")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of anything else
    return image.convert("RGB")
