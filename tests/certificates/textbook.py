"""The dual bound as in the paper: explicit matrices, one image at a time, in float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from scotoma.models.resnet import Standardise


def matrices(
    model: nn.Sequential, shape: tuple[int, int, int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return weights and biases of the flat affine maps between ReLUs, pixel scaling included."""
    stages, part = [], []
    size = shape
    for layer in [*model, None]:
        if layer is None or isinstance(layer, nn.ReLU):
            affine = nn.Sequential(*part)
            with torch.no_grad():
                n = int(np.prod(size))
                bias = affine(torch.zeros(1, *size, dtype=torch.float64))
                columns = affine(torch.eye(n, dtype=torch.float64).view(n, *size)) - bias
            stages.append((columns.flatten(1).T.numpy(), bias.flatten().numpy()))
            size, part = tuple(bias.shape[1:]), []
        else:
            part.append(layer.double() if not isinstance(layer, Standardise) else layer)
    return stages


def dual(stages: list, bounds: list, low: np.ndarray, high: np.ndarray, c: np.ndarray) -> float:
    """J of Theorem 1 for the objective c, with the exact box in place of eps ||nu_1||_1."""
    nu, value = -c, 0.0
    for depth in range(len(stages) - 1, -1, -1):
        weight, bias = stages[depth]
        value -= nu @ bias
        hat = weight.T @ nu
        if depth == 0:
            return value - np.maximum(hat, 0) @ high - np.minimum(hat, 0) @ low
        lower, upper = bounds[depth - 1]
        unstable = (lower < 0) & (upper > 0)
        nu = np.where(lower >= 0, hat, 0.0)
        nu[unstable] = (upper / (upper - lower))[unstable] * hat[unstable]
        value += lower[unstable] @ np.maximum(nu[unstable], 0)
    raise AssertionError


def layer_bounds(
    stages: list, low: np.ndarray, high: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Lower and upper bounds of the input of every ReLU, layer by layer."""
    bounds: list = []
    for depth in range(len(stages) - 1):
        identity = np.eye(len(stages[depth][1]))
        lower = np.array([dual(stages[: depth + 1], bounds, low, high, row) for row in identity])
        upper = np.array([-dual(stages[: depth + 1], bounds, low, high, -row) for row in identity])
        bounds.append((lower, upper))
    return bounds


def margins(model: nn.Sequential, image: torch.Tensor, label: int, eps: float) -> np.ndarray:
    """Lower bounds on the logit of the label minus every logit, for one image (c, h, w)."""
    stages = matrices(model, tuple(image.shape))  # type: ignore[arg-type]
    x = image.double().flatten().numpy()
    low, high = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    bounds = layer_bounds(stages, low, high)
    eye = np.eye(len(stages[-1][1]))
    return np.array([dual(stages, bounds, low, high, eye[label] - row) for row in eye])


def relaxed(stages: list, bounds: list, low: np.ndarray, high: np.ndarray, c: np.ndarray) -> float:
    """Solve the linear program that the dual bounds: the convex hull of every ReLU."""
    from scipy.optimize import linprog

    sizes = [len(low)] + [
        len(bias) for _, bias in stages for _ in "zy"
    ]  # x, then z and y = relu(z) a stage
    starts = np.cumsum([0, *sizes])
    total = int(starts[-2])  # the last stage has no ReLU
    equal, equal_to, below, below_to = [], [], [], []
    box = [(a, b) for a, b in zip(low, high, strict=True)] + [(None, None)] * (total - len(low))
    for depth, (weight, bias) in enumerate(stages):
        z, y = starts[1 + 2 * depth], starts[2 + 2 * depth]
        output = starts[2 * depth]
        for unit in range(len(bias)):
            row = np.zeros(total)
            row[z + unit], row[output : output + weight.shape[1]] = 1, -weight[unit]
            equal.append(row)
            equal_to.append(bias[unit])
            if depth == len(stages) - 1:
                continue
            lower, upper = (edge[unit] for edge in bounds[depth])
            above = np.zeros(total)
            above[z + unit], above[y + unit] = 1, -1  # z <= y
            slope = 1.0 if lower >= 0 else upper / (upper - lower) if upper > 0 else 0.0
            chord = np.zeros(total)
            chord[z + unit], chord[y + unit] = -slope, 1  # y <= slope (z - lower)
            below += [above, chord]
            below_to += [0.0, -slope * min(lower, 0)]
            box[y + unit] = (0, None)
    objective = np.zeros(total)
    objective[starts[-3] : starts[-3] + len(c)] = c
    solution = linprog(objective, np.array(below), below_to, np.array(equal), equal_to, box)
    assert solution.status == 0, solution.message
    return solution.fun
