"""Where models come from: one file a source, one line here a prefix.

>>> list(SOURCES)[:3]
['file', 'code', 'defence']
"""

from __future__ import annotations

from scotoma.utils.registry import Table

SOURCES = Table(
    "model source",
    {
        "file": "models.sources.file:file",
        "code": "models.sources.code:code",
        "defence": "models.sources.defence:defence",
        "hf": "models.sources.transformers:transformers",
        "timm": "models.sources.timm:timm",
        "torchvision": "models.sources.torchvision:torchvision",
        "robustbench": "models.sources.robustbench:robustbench",
        "onnx": "models.sources.onnx:onnx",
        "maite": "models.sources.maite:maite",
    },
)
"""What comes before the colon of a model; `file` and `code` need no prefix."""


def __dir__() -> list[str]:
    return ["SOURCES"]
