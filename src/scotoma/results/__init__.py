"""Findings of an audit as data."""
