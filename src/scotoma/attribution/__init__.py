"""Attribution maps: how much each sub-pixel of an image counts for its label.

One file a method, one line here a name.

>>> import scotoma, torch
>>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
>>> images, labels = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
>>> scotoma.attribution.InputXGradient()(model, images, labels).shape
torch.Size([3, 1, 2, 2])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scotoma.utils.registry import Table

if TYPE_CHECKING:
    from scotoma.attribution.gradient_shap import GradientShap as GradientShap
    from scotoma.attribution.input_gradient import InputXGradient as InputXGradient
    from scotoma.attribution.integrated_gradients import IntegratedGradients as IntegratedGradients
    from scotoma.attribution.smoothgrad import SmoothGrad as SmoothGrad

ATTRIBUTIONS = Table(
    "attribution",
    {
        "integrated-gradients": "attribution.integrated_gradients:IntegratedGradients",
        "input-x-gradient": "attribution.input_gradient:InputXGradient",
        "gradient-shap": "attribution.gradient_shap:GradientShap",
        "smoothgrad": "attribution.smoothgrad:SmoothGrad",
    },
)


def __getattr__(name: str) -> Any:
    return ATTRIBUTIONS.attribute(name)


def __dir__() -> list[str]:
    return sorted(["ATTRIBUTIONS", *ATTRIBUTIONS.attributes])
