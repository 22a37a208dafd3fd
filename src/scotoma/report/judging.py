"""The page on which a person judges images: one file that needs no network."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from scotoma.report.templates import render
from scotoma.results.judging import CANNOT_TELL, COLUMNS, Item


def page(items: Sequence[Item], key: str, classes: Sequence[str], title: str) -> str:
    """Return the page, as HTML without any address outside it.

    Args:
        items: the images, in the order in which they are shown.
        key: marks the answers, see `results.judging.run_key`.
        classes: names of the classes, by number.
    """
    content = {
        "run": key,
        "classes": list(classes),
        "unsure": CANNOT_TELL,
        "columns": COLUMNS,
        "items": [{"id": item.id, "image": data_uri(item.image)} for item in items],
    }
    # a name of a class must not be able to end the script
    text = json.dumps(content).replace("<", "\\u003c")
    return render("judge.html.j2", title=title, content=Markup(text))


def data_uri(image: np.ndarray) -> str:
    """Return an image (c, h, w) in [0, 1] as a PNG inside a URI.

    >>> data_uri(np.zeros((1, 2, 2)))[:22]
    'data:image/png;base64,'
    """
    from PIL import Image

    values = np.asarray(image, float).clip(0, 1)
    values = values.transpose(1, 2, 0) if len(values) == 3 else values.mean(0)
    file = io.BytesIO()
    levels = np.rint(255 * values).astype(np.uint8)
    Image.fromarray(levels).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
