"""The run: it executes attacks in batches, verifies every result and keeps the records."""
