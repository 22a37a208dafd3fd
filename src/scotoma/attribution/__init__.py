"""How much each sub-pixel of an image counts for its label, and how unequally that is shared out. One file a method, one line here
a name."""

from __future__ import annotations

from scotoma.utils.registry import Table

ATTRIBUTIONS = Table(
    "attribution",
    {
        "integrated-gradients": "attribution.integrated_gradients:IntegratedGradients",
        "input-x-gradient": "attribution.input_gradient:InputXGradient",
        "gradient-shap": "attribution.gradient_shap:GradientShap",
        "smoothgrad": "attribution.smoothgrad:SmoothGrad",
    },
)
