"""Devices and memory."""

import ctypes
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from scotoma.utils import device
from scotoma.utils.device import batch_size, keep_memory

LAYERS = """
import resource, torch
from scotoma.utils.device import keep_memory
{asked}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        layers = [torch.ones(10_000_000) for _ in range(2)]
        del layers
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults(asked: str) -> int:
    program = [sys.executable, "-c", LAYERS.format(asked=asked)]
    return int(subprocess.run(program, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"),
    reason="needs glibc, whose memory it keeps",
)
def test_freed_memory_is_used_again_without_asking_the_system():
    assert faults("keep_memory()") < 0.1 * faults("")


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_memory.__wrapped__()


@pytest.mark.parametrize(
    ("side", "channels", "images"), [(8, 1, 1024), (28, 1, 256), (32, 3, 65), (224, 3, 8)]
)
def test_a_batch_on_a_processor_is_bounded_by_what_its_layers_take(side, channels, images):
    values = channels * side * side
    assert batch_size(torch.device("cpu"), values) == images
    assert batch_size(torch.device("cuda"), values) == (1024 if side < 224 else 128)


class Drops(nn.Module):
    """Divides small shares by the probability to be kept, which rounds to 0 in bf16."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3000, 3000, bias=False)
        nn.init.constant_(self.layer.weight, 1e-3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.layer(images.flatten(1))
        kept = 1 - (1 - features / features.sum(1, keepdim=True))
        return (features / kept.clamp_min(1e-12))[:, :2]


def test_a_model_that_is_another_one_in_bf16_is_searched_in_float32(monkeypatch):
    monkeypatch.setattr(device, "has_bf16", lambda _: True)
    images = torch.rand(4, 1, 50, 60)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3000, 3000))
    assert device.pays_in_bf16(plain, images)
    assert not device.pays_in_bf16(Drops(), images)
