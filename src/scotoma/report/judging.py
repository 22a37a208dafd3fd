"""The page on which a person judges images: one file that needs no network."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scotoma.results.judging import CANNOT_TELL, COLUMNS, Item


def page(items: Sequence[Item], key: str, classes: Sequence[str], title: str) -> str:
    """Return the page, as HTML without any address outside it.

    Args:
        items: the images, in the order in which they are shown.
        key: marks the answers, see `results.judging.run_key`.
        classes: names of the classes, by number.
        title: what is judged.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    content = {
        "run": key,
        "classes": list(classes),
        "unsure": CANNOT_TELL,
        "columns": COLUMNS,
        "items": [{"id": item.id, "image": data_uri(item.image)} for item in items],
    }
    # a name of a class must not be able to end the script
    text = json.dumps(content).replace("<", "\\u003c")
    return environment.get_template("judge.html.j2").render(title=title, content=Markup(text))


def data_uri(image: np.ndarray) -> str:
    """Return an image (c, h, w) in [0, 1] as a PNG inside a URI.

    >>> data_uri(np.zeros((1, 2, 2)))[:22]
    'data:image/png;base64,'
    """
    from PIL import Image

    levels = np.rint(255 * np.asarray(image, float).clip(0, 1)).astype(np.uint8)
    if len(levels) == 3:
        picture = Image.fromarray(levels.transpose(1, 2, 0))
    else:
        mean = np.rint(255 * np.asarray(image, float).clip(0, 1).mean(0)).astype(np.uint8)
        picture = Image.fromarray(mean)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
