"""Tables 1, 2 and 4 and the loss ratio on ImageNet, with networks of our own."""

from __future__ import annotations

from collections.abc import Container
from itertools import product

import numpy as np

from scotoma.papers.item import Context, listed, row
from scotoma.papers.tramer2018 import published
from scotoma.papers.tramer2018.diagnostics import diagnose
from scotoma.papers.tramer2018.errors import IMAGES, STEP_LL_SUITE, transfer, white_box
from scotoma.papers.tramer2018.study import Study
from scotoma.reference import recipe_of
from scotoma.results.finding import Row
from scotoma.utils.stats import rate

TOP = 5


def _printed(network: str) -> dict[str, float]:
    """Return what Tables 2 and 4 say of a network."""
    names = "Step-LL", "R+Step-LL"
    printed: dict[str, float] = dict(zip(names, published.TABLE2.get(network, ()), strict=False))
    if line := published.TABLE4.get(network):
        printed |= {"clean error": line.clean, "Step-LL": line.step_ll}
        printed |= {"black-box error": line.black_box}
    return printed


class ImageNet(Study):
    """Tables 1, 2, 4 and the loss ratio on a folder of ImageNet; needs --data-root, days of GPU."""

    title = (
        "ImageNet: white-box and transferred attacks after natural, Step-LL and ensemble training"
    )
    source = "Tramer et al. 2018, Tables 1, 2 and 4 and section 4.1"
    suite = STEP_LL_SUITE
    recipe = "step-ll"
    networks = {
        "ResNet-50": {way: f"imagenet-{way}" for way in ("natural", "step-ll", "ensemble")},
        "ResNet-101": {"natural": "imagenet-held-out"},
    }
    held_out = ("imagenet-held-out",)
    members = ("imagenet-natural",)
    counterparts = {
        "imagenet-natural": "v3",
        "imagenet-step-ll": "v3adv",
        "imagenet-ensemble": "v3adv-ens3",
        "imagenet-held-out": "v4",
    }
    """The paper's network that has the same role."""
    printed = {model: _printed(network) for model, network in counterparts.items()}

    def further(self, context: Context) -> list[Row]:
        return [*self._table1(context), *self._top(context), *self._loss_ratios(context)]

    def _table1(self, context: Context) -> list[Row]:
        """Return errors under Step-LL made on one model and shown to another, as in Table 1."""
        single, common = self.suite.single, context.sample(self.held_out[0], IMAGES)
        make, rows = self.suite.black_box[single], []
        models = self._counterparts_in(published.TABLE1)
        for (model, network), (source, counterpart) in product(models.items(), repeat=2):
            if source == model:
                wrong = white_box(context, model, {single: make})[1][single]
            else:
                wrong = transfer(context, common, source, model, make)
            printed = published.TABLE1[network][published.SOURCES.index(counterpart)]
            keys = self._keys(model, source, single)
            rows.append(row(keys, "error, Table 1", rate(wrong), printed))
        return rows

    def _top(self, context: Context) -> list[Row]:
        """Return Table 4's largest black-box top-5 errors; none below six classes."""
        rows, common = [], context.sample(self.held_out[0], IMAGES)
        for model, network in self._counterparts_in(published.TABLE4).items():
            if len(context.data(model).classes) > TOP:
                errors = (
                    transfer(context, common, source, model, make, TOP)
                    for source in self.held_out
                    for make in self.suite.black_box.values()
                )
                largest, printed = max(errors, key=np.count_nonzero), published.TABLE4[network]
                keys, measure = self._keys(model, "held out", "strongest one"), "black-box error"
                rows.append(row(keys, f"{measure}, top-5", rate(largest), printed.black_box_top5))
        return rows

    def _loss_ratios(self, context: Context) -> list[Row]:
        ratios = published.LOSS_RATIO
        return [
            row(self._keys(m), "loss ratio", diagnose(context, m).steps.ratio, ratios[network])
            for m, network in self._counterparts_in(ratios).items()
        ]

    def _counterparts_in(self, table: Container[str]) -> dict[str, str]:
        """Return the models whose counterpart is in a table of the paper."""
        return {m: network for m, network in self.counterparts.items() if network in table}

    def _keys(self, model: str, source: str | None = None, attack: str | None = None) -> Row:
        network, training = next(key for key, name in self.trained.items() if name == model)
        return {"network": network, "training": training, "source": source, "attack": attack}

    def _notes(self, context: Context) -> tuple[str, ...]:
        names, schedule = published.NETWORKS, recipe_of(self.models[0]).schedule
        pairs = {f"{model} beside": names[n] for model, n in self.counterparts.items()}
        return (
            *super()._notes(context),
            "Published numbers are those of another network that has the same role "
            f"({listed(pairs, '{}')}): their order can be compared, not their size. The paper "
            f"makes five attacks on three held-out networks, over {published.IMAGES:,} images.",
            f"Ours are trained with {schedule.optimizer} for {schedule.epochs} epochs, batches of "
            f"{schedule.batch} and a cosine schedule from {schedule.peak:g}; the paper's with "
            "RMSProp from 0.045, times 0.94 every two epochs.",
        )
