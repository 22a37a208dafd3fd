"""The hash of a model changes with everything that decides its answers, and with nothing else."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scotoma.models.hashing import callable_hash, module_hash

MEAN = torch.tensor(0.1307)
SCALE = 2.0


def helper(x):
    return x * SCALE


class Net(nn.Module):
    """Has an attribute of the test, and reads values and a function from the top of its file."""

    def __init__(self, setting):
        super().__init__()
        self.setting = setting

    def forward(self, x):
        return helper(x - MEAN)


@dataclass
class Config:
    heat: float = 1.0
    parts: dict = field(default_factory=dict)


def linear(weight: float) -> nn.Linear:
    layer = nn.Linear(1, 1).requires_grad_(False)
    nn.init.constant_(layer.weight, weight)
    return layer


def scaled(by: float):
    return lambda x: by * x


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (torch.tensor(0.1), torch.tensor(0.2)),
        (torch.tensor(0.1).numpy(), torch.tensor(0.2).numpy()),
        (torch.tensor(0.5, dtype=torch.bfloat16), torch.tensor(0.6, dtype=torch.bfloat16)),
        (F.relu, F.gelu),
        (torch.relu, torch.tanh),
        (scaled(2), scaled(3)),
        (functools.partial(F.leaky_relu, negative_slope=0.1), functools.partial(F.leaky_relu)),
        ({"heat": 1}, {"heat": 2}),
        ({"a", "b"}, {"a", "c"}),
        ([linear(1.0)], [linear(2.0)]),
        (Config(1.0), Config(2.0)),
        (Config(parts={"mean": torch.zeros(2)}), Config(parts={"mean": torch.ones(2)})),
        (torch.float16, torch.float32),
    ],
)
def test_every_kind_of_setting_counts(first, second):
    assert module_hash(Net(first)) == module_hash(Net(first))
    assert module_hash(Net(first)) != module_hash(Net(second))


def test_what_the_code_reads_from_its_file_counts(monkeypatch):
    before = module_hash(Net(0))
    monkeypatch.setattr(sys.modules[__name__], "MEAN", torch.tensor(0.5))
    assert module_hash(Net(0)) != before
    monkeypatch.undo()
    assert module_hash(Net(0)) == before
    monkeypatch.setattr(sys.modules[__name__], "helper", lambda x: x)
    assert module_hash(Net(0)) != before


def test_hooks_and_another_forward_count():
    plain, hooked, other = Net(0), Net(0), Net(0)
    hooked.register_forward_hook(lambda module, inputs, output: output.round())
    other.forward = scaled(2)
    assert len({module_hash(each) for each in (plain, hooked, other)}) == 3


def test_code_without_a_file_counts():
    def typed(factor: int) -> type:
        """A class as it is typed at a prompt."""
        text = f"class Typed(nn.Module):\n    def forward(self, x):\n        return x * {factor}"
        names = {"nn": nn, "__name__": "__main__"}
        exec(text, names)
        return names["Typed"]

    assert module_hash(typed(2)()) != module_hash(typed(3)())


def test_modules_that_refer_to_each_other_have_a_hash():
    first, second = Net([]), Net([])
    first.setting.append(second)
    second.setting.append(first)
    assert module_hash(first) == module_hash(first)


def test_what_a_module_keeps_of_earlier_calls_does_not_count():
    net = Net(0)
    kept = Config()
    net.__dict__["_kept"] = kept
    before = module_hash(net)
    kept.parts["last"] = torch.zeros(3)
    assert module_hash(net) == before


ALLOWED = """
from scotoma.models.hashing import callable_hash
ALLOWED = {"one", "two", "three", "four"}
def predict(x):
    return x if str(x) in {"u", "v", "w", "z"} or "one" in ALLOWED else 2 * x
print(callable_hash(predict))
"""


def test_a_callable_has_the_same_hash_in_another_process(tmp_path):
    (tmp_path / "mine.py").write_text(ALLOWED)
    hashes = {
        subprocess.run(
            [sys.executable, tmp_path / "mine.py"],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(hashes) == 1


def test_every_method_of_a_callable_object_counts():
    class Scorer:
        def __call__(self, x):
            return self.score(x)

        def score(self, x):
            return x

    class Other(Scorer):
        def score(self, x):
            return 2 * x

    Other.__qualname__ = Scorer.__qualname__
    assert callable_hash(Scorer()) == callable_hash(Scorer())
    assert callable_hash(Scorer()) != callable_hash(Other())
