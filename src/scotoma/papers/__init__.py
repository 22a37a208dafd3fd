"""The papers: their tables as data, and how to measure them again."""
