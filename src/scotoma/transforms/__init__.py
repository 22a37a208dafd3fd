"""Harmless changes of an image. A transform is a small frozen dataclass from images to images in [0, 1]."""
