"""Tramer et al. 2018, measured again: ensemble adversarial training, and what one step hides."""
