"""The colour of covered pixels."""

from __future__ import annotations

import math

from torch import Tensor

from scotoma.attribution.ranking import known
from scotoma.utils.errors import InputError

COLOURS = ("black", "gray", "white")
"""The smallest value of the image, 0.5, and its largest value, in all channels. Unlike "black" and
"white", the numbers 0.0 and 1.0 are equal for all images."""

Colour = str | float | tuple[float, ...]
"""One of `COLOURS`, a number in [0, 1], or one for each channel, such as the mean of the data."""


def fill(images: Tensor, colour: Colour) -> Tensor:
    """Return the colour for each of the images (n, c, h, w), (n, c, 1, 1) in [0, 1].

    Duan et al. 2023 cover with min(x), 0 or max(x) in normalised space. There 0 is the mean of the
    data; for it, give the mean of each channel.

    Raises:
        InputError: another name, a number outside [0, 1], or a wrong number of channels.
    """
    n, channels = images.shape[:2]
    if isinstance(colour, str):
        name = known(colour, COLOURS, "colour")
        if name != "gray" and images.numel():
            own = images.amin((1, 2, 3)) if name == "black" else images.amax((1, 2, 3))
            return own.view(n, 1, 1, 1).expand(n, channels, 1, 1)
        colour = 0.5
    numbers = colour if isinstance(colour, tuple) else (colour,) * channels
    if len(numbers) != channels:
        raise InputError(
            f"a colour of {len(numbers)} numbers for images of {channels} channels; "
            "give one a channel"
        )
    if not all(math.isfinite(number) and 0 <= number <= 1 for number in numbers):
        raise InputError(f"colour {colour} is not in [0, 1]; divide by 255 if it is in 0-255")
    return images.new_tensor(numbers).view(1, channels, 1, 1).expand(n, channels, 1, 1)
