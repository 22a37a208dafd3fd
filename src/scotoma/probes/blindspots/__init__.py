"""Do harmless transforms void the claim? The blind-spot probe, its map, and patching."""
