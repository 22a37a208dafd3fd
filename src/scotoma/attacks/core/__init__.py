"""What attacks share: bases, the oracle, the active set, losses, starting points, path search."""
