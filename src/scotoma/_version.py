"""The version, which records and reports carry."""

__version__ = "0.1.0"
