"""The report: one self-contained HTML page and its figures, drawn from findings alone."""
