"""Tables 1, 2 and 4 and the loss ratio on ImageNet, with networks of our own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scotoma.papers.item import Context, agreement, row
from scotoma.papers.tramer2018 import drawn, published
from scotoma.papers.tramer2018.diagnosis import diagnose
from scotoma.papers.tramer2018.errors import transfer, white_box
from scotoma.papers.tramer2018.study import Study
from scotoma.papers.tramer2018.suites import STEP_LL_SUITE
from scotoma.reference import recipe_of
from scotoma.results.finding import Finding, Row
from scotoma.utils.stats import rate

TOP = 5


class ImageNet(Study):
    """Tables 1, 2 and 4 and the loss ratio on a folder of ImageNet; run when it is named. Needs --data-root and days on a GPU."""

    title = (
        "ImageNet: white-box and transferred attacks after natural, Step-LL and ensemble training"
    )
    source = "Tramer et al. 2018, Tables 1, 2 and 4 and section 4.1"
    suite = STEP_LL_SUITE
    recipe = "step-ll"
    networks = {
        "ResNet-50": {
            "natural": "imagenet-natural",
            "step-ll": "imagenet-step-ll",
            "ensemble": "imagenet-ensemble",
        },
        "ResNet-101": {"natural": "imagenet-held-out"},
    }
    held_out = ("imagenet-held-out",)
    seen = ("imagenet-natural",)
    counterparts = {
        "imagenet-natural": "v3",
        "imagenet-step-ll": "v3adv",
        "imagenet-ensemble": "v3adv-ens3",
        "imagenet-held-out": "v4",
    }
    """The paper's network that has the same part."""

    def published(self, model: str, measured: str) -> float | None:
        network = self.counterparts[model]
        figures: dict[str, float] = {}
        if network in published.TABLE2:
            figures["Step-LL"], figures["R+Step-LL"] = published.TABLE2[network]
        if network in published.TABLE4:
            printed = published.TABLE4[network]
            figures |= {
                "clean error": printed.clean,
                "Step-LL": printed.step_ll,
                "black-box error": printed.black_box,
            }
        return figures.get(measured)

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        rows, finding = super().measure(context, name)
        rows = [*rows, *self._table1(context), *self._top(context), *self._loss_ratios(context)]
        inside, published = (*agreement(rows).values(), 0, 0)[:2]
        numbers = finding.numbers | {"published": published, "published_inside": inside}
        return rows, replace(finding, numbers=numbers)

    def _table1(self, context: Context) -> list[Row]:
        """Step-LL made on one model and shown to another, as far as the paper's table has their counterparts."""
        single, rows = self.suite.single, []
        make, common = self.suite.black_box[single], drawn(context, self.held_out[0])
        known = [
            model for model, network in self.counterparts.items() if network in published.TABLE1
        ]
        for model in known:
            for source in known:
                if source == model:
                    wrong = white_box(context, model, {single: make})[1][single]
                else:
                    wrong = transfer(context, common, source, model, make)
                column = published.SOURCES.index(self.counterparts[source])
                printed = published.TABLE1[self.counterparts[model]][column]
                rows.append(
                    row(self._keys(model, source, single), "error, Table 1", rate(wrong), printed)
                )
        return rows

    def _top(self, context: Context) -> list[Row]:
        """Table 4's largest black-box error among the first five classes; nothing where there are no more than five."""
        rows, common = [], drawn(context, self.held_out[0])
        for model, network in self.counterparts.items():
            if network in published.TABLE4 and len(context.data(model).classes) > TOP:
                met = [
                    transfer(context, common, source, model, make, TOP)
                    for source in self.held_out
                    for make in self.suite.black_box.values()
                ]
                keys, printed = (
                    self._keys(model, "held out", "strongest one"),
                    published.TABLE4[network].black_box_top5,
                )
                rows.append(
                    row(
                        keys,
                        "black-box error, top-5",
                        rate(max(met, key=np.count_nonzero)),
                        printed,
                    )
                )
        return rows

    def _loss_ratios(self, context: Context) -> list[Row]:
        return [
            row(
                self._keys(model),
                "loss ratio",
                diagnose(context, model).steps.ratio,
                published.LOSS_RATIO[network],
            )
            for model, network in self.counterparts.items()
            if network in published.LOSS_RATIO
        ]

    def _keys(self, model: str, source: str | None = None, attack: str | None = None) -> Row:
        network, training = next(
            (network, training)
            for network, of_it in self.networks.items()
            for training, each in of_it.items()
            if each == model
        )
        return {"network": network, "training": training, "source": source, "attack": attack}

    def _notes(self, context: Context) -> tuple[str, ...]:
        pairs = ", ".join(
            f"{model} beside {published.NETWORKS[network]}"
            for model, network in self.counterparts.items()
        )
        recipe = recipe_of(self.models[0])
        return (
            *super()._notes(context),
            f"Published figures are those of another network that has the same part ({pairs}): their order can be compared, not "
            f"their size. The paper holds out three networks and makes five attacks on each, over {published.IMAGES:,} images.",
            f"Ours are trained with {recipe.schedule.optimizer} for {recipe.schedule.epochs} epochs, batches of "
            f"{recipe.schedule.batch} and a cosine schedule from {recipe.schedule.peak:g}; the paper's with RMSProp from 0.045, "
            "times 0.94 every two epochs.",
        )
