"""CSV: one row for each audited image, with what the ledger says of it."""

from __future__ import annotations

import polars as pl

from scotoma.execution.records import fallen
from scotoma.results.attack_names import short_name
from scotoma.results.comparison.audits import Audit
from scotoma.results.ledger import NORMS


def render(audit: Audit) -> str:
    """Return the rows of the ledger for the test set itself, ordered by image.

    Columns are those of `Ledger`, with short names of attacks. `fooled_within_eps` is what the
    report counts; `fooled_at_any_size` is `success` of the ledger. An infinite size (`inf`) means
    that no attack succeeded.
    """
    threat = audit.threat
    within = pl.Series("fooled_within_eps", fallen(audit.rows, threat.eps, threat.norm))
    rows = audit.rows.insert_column(audit.rows.get_column_index("success"), within)
    names = [pl.col(f"{norm}_attack").map_elements(short_name, pl.String) for norm in NORMS]
    rows = rows.with_columns(names).rename({"success": "fooled_at_any_size"})
    return rows.drop("transform").sort("index").write_csv()
