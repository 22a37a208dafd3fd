"""How the audit attack adapts to a model: what it looks at, what it concludes, what it tries."""
