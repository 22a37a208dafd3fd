"""ONNX programs through ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scotoma.data.input import InputSpec
from scotoma.models.black_box import BlackBox
from scotoma.models.classifier import Classifier
from scotoma.models.sources.file import file_hash
from scotoma.models.sources.opening import Opening, one_line
from scotoma.utils.errors import InputError
from scotoma.utils.optional import require

TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}
"""Types of pixels."""
COLOURS = (1, 3)
"""Numbers of channels that images have."""


def onnx(rest: str, opening: Opening) -> Classifier:
    """FILE: an ONNX program with one input, as PyTorch, TensorFlow, JAX and scikit-learn write."""
    path = Path(rest).expanduser()
    opening.only(f"onnx:{path}", "range", "outputs")
    runtime = require("onnxruntime", "model onnx:FILE")
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    settings = runtime.SessionOptions()
    settings.log_severity_level = 4  # errors reach the user as one line
    settings.intra_op_num_threads = min(torch.get_num_threads(), os.cpu_count() or 1)
    with one_line(str(path)):
        session = runtime.InferenceSession(
            str(path), settings, providers=runtime.get_available_providers()
        )
    program = Program(session, path)
    limits = opening.range or ((0.0, 255.0) if program.type == np.uint8 else None)
    module = BlackBox(program, limits, opening.outputs)
    module.content = " ".join(map(file_hash, [path, *_weights_beside(path)]))
    return Classifier.of(module, path.stem, input=program.size)


def _weights_beside(path: Path) -> list[Path]:
    """Return the files beside a program that it names as the place of its weights."""
    content = path.read_bytes()
    marks = {
        each: b"location\x12" + bytes([len(name)]) + name
        for each in sorted(path.parent.iterdir())
        if each != path and each.is_file() and len(name := each.name.encode()) < 128
    }
    return [each for each, mark in marks.items() if mark in content]


class Program:
    """An ONNX program as a function from images (n, c, h, w) to an array (n, classes).

    Raises:
        InputError: its input is no batch of images, or it has no output with a row for each image.
    """

    def __init__(self, session: Any, path: Path):
        inputs = session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(each.name for each in inputs)
            raise InputError(f"{path}: the program has {len(inputs)} inputs ({names}); want one")
        (self.input,) = inputs
        shape: list[Any] = [
            each if isinstance(each, int) and each > 0 else None for each in self.input.shape
        ]
        if len(shape) not in (2, 4) or self.input.type not in TYPES:
            raise InputError(
                f"{path}: input {self.input.name} is {self.input.type} of shape "
                f"{self.input.shape}; want images (n, c, h, w) or (n, h, w, c), or rows (n, values)"
            )
        self.session = session
        self.type = TYPES[self.input.type]
        self.flat = len(shape) == 2
        self.channels_last = len(shape) == 4 and shape[3] in COLOURS and shape[1] not in COLOURS
        self.batch = shape[0]
        self.output = self._scores(path)
        sides = shape[1:3] if self.channels_last else shape[2:]
        self.size = None if self.flat or None in sides else InputSpec((sides[0], sides[1]))

    def __call__(self, images: Tensor) -> np.ndarray:
        values = images.numpy()
        if self.flat:
            values = values.reshape(len(values), -1)
        elif self.channels_last:
            values = values.transpose(0, 2, 3, 1)
        values = (values.round() if self.type == np.uint8 else values).astype(self.type)
        size = self.batch or len(values)
        blocks = [self._run(values[at : at + size], size) for at in range(0, len(values), size)]
        return np.concatenate(blocks)

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        return self  # a session does not change, and cannot be copied

    def _run(self, values: np.ndarray, size: int) -> np.ndarray:
        padding = size - len(values)
        if padding:  # a program for batches of one size
            values = np.concatenate([values, np.repeat(values[:1], padding, 0)])
        (outputs,) = self.session.run([self.output], {self.input.name: values})
        outputs = np.asarray(outputs)
        return outputs[: len(outputs) - padding].astype(np.float32)

    def _scores(self, path: Path) -> str:
        """Return the name of the output with the scores; classifiers may return labels beside."""
        outputs = self.session.get_outputs()
        scores = [
            each.name
            for each in outputs
            if each.type in TYPES and len(each.shape or ()) == 2 and "uint8" not in each.type
        ]
        if not scores:
            kinds = ", ".join(f"{each.name}: {each.type} {each.shape}" for each in outputs)
            raise InputError(
                f"{path}: no output has a row of scores for each image ({kinds}); scikit-learn "
                "models are converted with zipmap=False"
            )
        return scores[0]
