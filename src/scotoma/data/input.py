"""How images are resized and cropped: as options say, or as a model's own configuration asks."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from scotoma.utils.errors import InputError
from scotoma.utils.registry import nearest

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Resampling filters, by the names that Pillow gives them."""
FILTERS: tuple[str, ...] = get_args(Interpolation)


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes the input of a model, before its values are normalised.

    Args:
        size: height and width in pixels that the network takes.
        resize: the length of the shorter side after resizing, or height and width; None means that
            images are not resized.
        crop: height and width of the centre crop after resizing; None means no crop.
        interpolation: filter of the resizing.

    >>> str(InputSpec((224, 224), resize=256, crop=(224, 224), interpolation="bicubic"))
    'shorter side to 256 (bicubic), centre crop 224x224'
    """

    size: tuple[int, int]
    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"

    def __str__(self) -> str:
        steps = []
        if self.resize is not None:
            if isinstance(self.resize, tuple):
                goal = f"resized to {self.resize[0]}x{self.resize[1]}"
            else:
                goal = f"shorter side to {self.resize}"
            steps.append(f"{goal} ({self.interpolation})")
        if self.crop is not None:
            steps.append(f"centre crop {self.crop[0]}x{self.crop[1]}")
        return ", ".join(steps) or f"{self.size[0]}x{self.size[1]} as it is"


@dataclass(frozen=True)
class ImageOptions:
    """Options of images that are decoded from files.

    Args:
        size, resize, crop, on_error: as in `load_data`.
        interpolation: filter of the resizing [default: that of the model, or bilinear].
        model: what the model's own configuration asks for, used where no option says otherwise.

    Raises:
        InputError: the options do not fit each other.

    >>> print(ImageOptions(resize=256, crop=224).recipe((500, 375), False))
    shorter side to 256 (bilinear), centre crop 224x224
    """

    size: int | str | None = None
    resize: int | None = None
    crop: int | None = None
    interpolation: str | None = None
    on_error: str = "refuse"
    model: InputSpec | None = None

    def __post_init__(self):
        if self.size is not None and self.resize is not None:
            raise InputError(
                f"size={self.size} and resize={self.resize} contradict each other: size=N stretches"
                " to a square, resize=N keeps the proportions; choose one"
            )
        if self.resize is not None and self.crop is None:
            raise InputError(
                f"resize={self.resize} leaves images of several sizes; add crop={self.resize}"
            )
        for name in ("resize", "crop"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}={value}: want a number of pixels above 0")
        for name in ("size", "resize"):
            value = getattr(self, name)
            sides = () if value is None else _sides(value)
            if self.crop is not None and any(self.crop > side for side in sides):
                raise InputError(f"crop={self.crop} is larger than {name}={value}; exchange them")
        if self.interpolation is not None and self.interpolation not in FILTERS:
            hint = nearest(self.interpolation, list(FILTERS))
            raise InputError(f"interpolation={self.interpolation}: unknown filter; {hint}")
        if self.on_error not in ("refuse", "skip"):
            raise InputError(f"on_error={self.on_error}: want refuse or skip")

    @property
    def skip(self) -> bool:
        """Whether files that cannot be read are omitted."""
        return self.on_error == "skip"

    @property
    def chosen(self) -> bool:
        """Whether an option says how images are resized."""
        return any((self.size, self.resize, self.crop))

    @property
    def resizes(self) -> bool:
        """Whether an option, or the model, makes images of any size equal."""
        return self.chosen or self.model is not None

    def recipe(self, size: tuple[int, int], several: bool) -> InputSpec | None:
        """Return how images are resized and cropped, or None.

        Images that all have one size stay as they are if the model takes that size, or if they are
        smaller in either direction: enlarging them is the model's own affair.

        Args:
            size: width and height of the first image.
            several: whether other images have other sizes.
        """
        model = self.model
        filter = self.interpolation or (model.interpolation if model else "bilinear")
        kind: Interpolation = filter  # type: ignore[assignment]
        if self.chosen:
            crop = None if self.crop is None else (self.crop, self.crop)
            resize = self.resize if self.size is None else _sides(self.size)
            final = crop or resize
            assert isinstance(final, tuple)
            return InputSpec(final, resize, crop, kind)
        if model is None:
            if self.interpolation is not None:
                raise InputError(
                    f"interpolation={self.interpolation} says how to resize, and nothing is "
                    "resized; add size=N, or resize=N with crop=N"
                )
            return None
        height, width = model.size
        if not several and (size == (width, height) or size[0] < width or size[1] < height):
            return None
        spec = replace(model, interpolation=kind)
        if spec.crop is None and not isinstance(spec.resize, tuple):
            return replace(spec, resize=spec.resize or spec.size, crop=spec.size)
        return replace(spec, size=spec.crop or spec.resize)

    def refuse_for(self, name: str) -> None:
        """Raise `InputError` if an option is set, for data that is not decoded from files."""
        for each in fields(self):
            value = getattr(self, each.name)
            if value != each.default and each.name != "model":
                raise InputError(
                    f"{each.name}={value} is for images that are decoded from files; data {name} "
                    "has arrays of one size (a model that wants another resizes in its first layer)"
                )


def _sides(size: int | str) -> tuple[int, int]:
    """Return height and width of "224" or "224x192"."""
    sides = str(size).lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise InputError(f"size={size}: want a side as in 224, or HEIGHTxWIDTH as in 224x192")
    return int(sides[0]), int(sides[-1])
