"""Models of RobustBench, which take images in [0, 1]."""

from __future__ import annotations

from typing import Any

from scotoma.data.input import InputSpec
from scotoma.models.classifier import Classifier
from scotoma.models.sources.opening import Opening, one_line
from scotoma.utils.errors import InputError
from scotoma.utils.optional import require
from scotoma.utils.registry import nearest

SIZES = {"cifar10": 32, "cifar100": 32, "imagenet": 224}
"""Side of the images of each data set."""
THREATS: tuple[str, ...] = ("Linf", "L2", "corruptions")
INSTALL = "torch==2.14.1 torchvision==0.29.1 git+https://github.com/RobustBench/robustbench"


def robustbench(rest: str, opening: Opening) -> Classifier:
    """DATASET/THREAT/NAME: a model of RobustBench, as cifar10/Linf/Carmon2019Unlabeled."""
    spec = f"robustbench:{rest}"
    opening.only(spec)
    parts = rest.split("/")
    if len(parts) != 3:
        raise InputError(
            f"{spec}: want robustbench:DATASET/THREAT/NAME, such as "
            "robustbench:cifar10/Linf/Carmon2019Unlabeled"
        )
    data, threat, name = parts
    for what, value, names in (("data set", data, list(SIZES)), ("threat", threat, list(THREATS))):
        if value not in names:
            raise InputError(f"{spec}: unknown {what} {value!r}; {nearest(value, names)}")
    utils: Any = require("robustbench.utils", "model robustbench:DATASET/THREAT/NAME", INSTALL)
    with one_line(spec):
        module = utils.load_model(model_name=name, dataset=data, threat_model=threat)
    return Classifier.of(module, name, input=InputSpec((SIZES[data], SIZES[data])))
