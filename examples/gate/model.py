"""A small network for the embedded digits, trained with PGD; run this file to train it."""

from pathlib import Path

import scotoma

WEIGHTS = Path(__file__).with_name("model.safetensors")


def train(recipe: str = "pgd") -> None:
    """Train the network and write its weights beside this file."""
    from scotoma.threat import Threat
    from scotoma.training.loop import Schedule, train

    digits, threat = scotoma.load_data("digits"), Threat("linf", 0.1)
    schedule = Schedule(epochs=6, batch=64, peak=4e-3)
    train(recipe, digits, "small-cnn", threat, WEIGHTS, schedule=schedule)


if __name__ == "__main__":
    train()
