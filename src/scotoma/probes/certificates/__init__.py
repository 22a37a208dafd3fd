"""Certificates, and what remains of them after harmless transforms."""
