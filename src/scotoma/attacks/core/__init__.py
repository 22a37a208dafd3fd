"""What several attacks share: the model as an oracle, the active set, losses, starting points and path search."""
