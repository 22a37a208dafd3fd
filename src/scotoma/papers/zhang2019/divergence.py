"""Table 1: how far the test set is from the training set, beside how often the attack succeeds."""

from __future__ import annotations

from scotoma.execution import records as rec
from scotoma.papers.item import Context, agreement, number, row
from scotoma.papers.zhang2019 import how, images, published, settings
from scotoma.papers.zhang2019.grid import printed_rate
from scotoma.probes.divergence.probe import Divergence
from scotoma.report.text import scalar
from scotoma.results.finding import Bars, Finding, Row
from scotoma.utils.stats import rate

DIVERGENCE = "K-L divergence"
BEYOND = {
    "K-L divergence at equal sizes": "kl_matched",
    "K-L divergence within the training set": "kl_null",
    "k-NN K-L divergence": "knn_kl",
    "k-NN K-L divergence at equal sizes": "knn_kl_matched",
    "k-NN K-L divergence within the training set": "knn_kl_null",
    "AUC of a classifier": "auc",
    "AUC of a classifier within the training set": "auc_null",
}
"""What t-SNE cannot give, and what sampling alone gives: by the names in the divergence probe's numbers."""


class Table1:
    """K-L divergence between training and test set, attack success and accuracy of three data sets."""

    title = "Table 1: divergence of the test set, attack success and accuracy"
    source = "Zhang et al. 2019, section 4.3, Table 1"
    models = ("fashion-pgd", "mnist-pgd", "cifar-robust")

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        rows = []
        with context.progress.bar(self.title, len(self.models)) as advance:
            for model in self.models:
                rows += self._measure(context, model)
                advance(1)
        inside, of = agreement(rows)
        orders = {
            measure: [each for each in rows if each["measure"] == measure]
            for measure in (DIVERGENCE, "success")
        }
        kept = {measure: self._rises(measured) for measure, measured in orders.items()}
        order = {
            measure: "in the paper's order" if holds else "not in the paper's order"
            for measure, holds in kept.items()
        }
        divergences = ", ".join(
            f"{each['data']} {scalar(each['ours'])} ({each['published']})"
            for each in orders[DIVERGENCE]
        )
        successes = ", ".join(
            f"{each['data']} {scalar(each['ours'])} ({each['published']})"
            for each in orders["success"]
        )
        return rows, Finding(
            probe=name,
            question=self.title,
            verdict="reproduced" if all(kept.values()) else "differs",
            rule=(
                "reproduced if K-L divergence and success of the attack each rise from Fashion-MNIST over MNIST to CIFAR-10; else "
                "differs"
            ),
            headline=(
                f"Ours and, in brackets, published: K-L divergence {divergences}, {order[DIVERGENCE]}; success of the attack "
                f"{successes}, {order['success']}."
            ),
            numbers={"published_inside": inside, "published": of},
            tables={"data": self._wide(rows)},
            figures=(
                Bars(
                    "rates",
                    "Success of the attack at eps and accuracy, ours beside the paper's, with 95% intervals.",
                    table="data",
                    label="data",
                    series={
                        f"{measure}, {who}": (column, f"{column}_low", f"{column}_high")
                        for measure in ("success", "accuracy")
                        for who, column in (("ours", measure), ("paper", f"published_{measure}"))
                    },
                    y_label="rate",
                ),
            ),
            notes=(
                how(context),
                "The divergence is the divergence probe's, in the features of the robust model, of all training and test images, "
                "averaged over classes. Within the training set, between parts of equal sizes, it is what sampling alone gives.",
            ),
        )

    @staticmethod
    def _measure(context: Context, model: str) -> list[Row]:
        run, asked = context.run(model), settings(context)
        claim, data = run.claim, context.data(model).name
        divergence, success, accuracy = published.TABLE1[data]
        found = Divergence(points=None).measure(claim, run, asked).numbers
        records = run.subset(run.correct_indices(images(context))).attack(
            asked.make_attack(claim.threat), what=f"  {model}"
        )
        told, n = run.predictions(), len(claim.data.test)
        keys = {"data": data}
        return [
            row(keys, DIVERGENCE, number(found, "kl", n), divergence),
            row(
                keys,
                "success",
                rate(rec.successes(records, claim.threat.eps, claim.threat.norm)),
                success,
            ),
            row(keys, "accuracy", rate((told["prediction"] == told["label"]).to_numpy()), accuracy),
            *(row(keys, measure, number(found, key, n)) for measure, key in BEYOND.items()),
        ]

    @staticmethod
    def _rises(rows: list[Row]) -> bool:
        values = [each["ours"] for each in rows]
        return None not in values and sorted(set(values)) == values

    @staticmethod
    def _wide(rows: list[Row]) -> list[Row]:
        wide: dict[str, Row] = {}
        for each in rows:
            if each["measure"] in ("success", "accuracy"):
                measure = each["measure"]
                printed = printed_rate(each["published"])
                line = wide.setdefault(each["data"], {"data": each["data"]})
                line |= {
                    measure: each["ours"],
                    f"{measure}_low": each["low"],
                    f"{measure}_high": each["high"],
                }
                line |= {
                    f"published_{measure}{end}": getattr(printed, key) for end, key in ENDS.items()
                }
        return list(wide.values())


ENDS = {"": "value", "_low": "low", "_high": "high"}
