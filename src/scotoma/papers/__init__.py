"""Tables and figures of the papers, measured again: one class for each item, one line here."""

from __future__ import annotations

from scotoma.utils.errors import InputError
from scotoma.utils.registry import Table, nearest

ITEMS = Table(
    "item",
    {
        "zhang2019/table1": "papers.zhang2019.tables:Table1",
        "zhang2019/table2": "papers.zhang2019.tables:Table2",
        "zhang2019/table3": "papers.zhang2019.tables:Table3",
        "zhang2019/figure1": "papers.zhang2019.figures:Figure1",
        "zhang2019/figure2": "papers.zhang2019.figures:Figure2",
        "zhang2019/figure3": "papers.zhang2019.figures:Figure3",
        "zhang2019/choices": "papers.zhang2019.choices:Choices",
        "zhang2019/rivals": "papers.zhang2019.rivals:Rivals",
        "zhang2019/figure4": "papers.zhang2019.figures:Figure4",
        "zhang2019/figure5": "papers.zhang2019.figures:Figure5",
        "zhang2019/provable": "papers.zhang2019.provable:Provable",
        "zhang2019/scarcity": "papers.zhang2019.causes:Scarcity",
        "zhang2019/threshold": "papers.zhang2019.causes:Threshold",
        "zhang2019/shift": "papers.zhang2019.causes:Shift",
        "tramer2018/mnist": "papers.tramer2018.study:Mnist",
        "tramer2018/rand-fgsm": "papers.tramer2018.study:RandFGSMTraining",
        "tramer2018/diagnostics": "papers.tramer2018.diagnostics:Diagnostics",
        "schott2019/table": "papers.schott2019.norms:Norms",
        "schott2019/fast": "papers.schott2019.norms:FastNorms",
        "schott2019/masking": "papers.schott2019.norms:AuthorsNorms",
        "schott2019/bounds": "papers.schott2019.norms:Bounds",
        "schott2019/distal": "papers.schott2019.distal:DistalImages",
        "tramer2018/imagenet": "papers.tramer2018.imagenet:ImageNet",
        "duan2023/digits": "papers.duan2023.study:Digits",
        "duan2023/seeds": "papers.duan2023.study:Seeds",
        "duan2023/mnist": "papers.duan2023.study:Mnist",
        "duan2023/below-noise": "papers.duan2023.study:MnistBelowNoise",
        "duan2023/cifar": "papers.duan2023.study:Cifar",
        "duan2023/attributions": "papers.duan2023.variants:Attributions",
        "duan2023/remedies": "papers.duan2023.variants:Remedies",
    },
)

BY_NAME = {"tramer2018/imagenet", "duan2023/cifar"}
"""Items that run only by their own name, since their models train for many hours or on data that
cannot be downloaded."""


def item_names(name: str) -> list[str]:
    """Return the items that "paper/item" or "paper" names.

    Raises `InputError`, with the nearest name, if there are none.
    """
    in_paper = [item for item in ITEMS if item.startswith(f"{name}/") and item not in BY_NAME]
    items = [name] if name in ITEMS else in_paper
    if not items:
        papers = dict.fromkeys(item.partition("/")[0] for item in ITEMS)
        hint = nearest(name, [*papers, *ITEMS])
        raise InputError(f"nothing to reproduce is called {name!r}; {hint}")
    return items
