"""Schott et al. 2019, measured again: six models of MNIST in three norms, and far from the data."""

MODELS = {
    "CNN": "mnist-cnn",
    "Binary CNN": "mnist-binary-cnn",
    "Nearest neighbour": "mnist-nearest-neighbour",
    "Madry et al.": "mnist-pgd",
    "Binary ABS": "mnist-binary-abs",
    "ABS": "mnist-abs",
}
"""Reference model for each of the paper's, in the order of its table."""
