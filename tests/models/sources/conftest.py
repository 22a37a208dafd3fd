"""Small models of other libraries, made in the tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def program(linear, tmp_path) -> Callable[..., Path]:
    """A function that writes the linear model of the digits as an ONNX program."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    weights = {
        "weights": linear[1].weight.detach().numpy(),
        "bias": linear[1].bias.detach().numpy(),
    }

    def write(
        name: str = "digits.onnx",
        shape: tuple = ("n", 1, 8, 8),
        kind: int = onnx.TensorProto.FLOAT,
        scale: float = 1.0,
        labels: bool = False,
        logits: str = "logits",
    ) -> Path:
        helper, types = onnx.helper, onnx.TensorProto
        nodes = [
            helper.make_node("Cast", ["images"], ["floats"], to=types.FLOAT),
            helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
            helper.make_node("Flatten", ["scaled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "bias"], [logits], transB=1),
        ]
        outputs = [helper.make_tensor_value_info(logits, types.FLOAT, [shape[0], 10])]
        if labels:
            nodes.append(helper.make_node("ArgMax", [logits], ["label"], axis=1, keepdims=0))
            outputs.insert(0, helper.make_tensor_value_info("label", types.INT64, [shape[0]]))
        constants = {**weights, "scale": np.array(scale, np.float32)}
        graph = helper.make_graph(
            nodes,
            "digits",
            [helper.make_tensor_value_info("images", kind, shape)],
            outputs,
            [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture
def without(monkeypatch) -> Callable[[str], None]:
    """A function after which a library counts as not installed."""

    def forget(name: str) -> None:
        for known in [each for each in sys.modules if each.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, known)
        monkeypatch.setitem(sys.modules, name, None)

    return forget
