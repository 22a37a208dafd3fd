"""CSV: one row for each audited image, with what the ledger says of it."""

from __future__ import annotations

from scotoma.results.comparison.audits import Audit


def render(audit: Audit) -> str:
    """Return the rows of the ledger for the test set itself, ordered by image.

    Columns are those of `Ledger`; an infinite size (`inf`) means that no attack succeeded.
    """
    return audit.rows.drop("transform").sort("index").write_csv()
