"""The embedded digits: the documented split, the same for ever."""

import hashlib

import numpy as np
import torch
from sklearn.datasets import load_digits

from scotoma.data import load_data


def test_split_is_the_documented_permutation():
    data = load_data("digits")
    assert data.train is not None
    pixels, target = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(1797)
    assert (len(data.test), len(data.train), data.shape) == (500, 1297, (1, 8, 8))
    assert data.classes == tuple("0123456789")
    for split, rows in ((data.test, order[:500]), (data.train, order[500:])):
        everything = split.images(torch.arange(len(split)))
        assert everything.dtype == torch.float32
        assert np.array_equal(everything[:, 0].numpy() * 16, pixels[rows].reshape(-1, 8, 8))
        assert np.array_equal(split.labels.numpy(), target[rows])


def test_split_is_stable():
    data = load_data("digits")
    first = hashlib.sha256(bytes(data.test.labels[:100].tolist())).hexdigest()
    assert first == "fdcdc80e66bd04a832ff9a60032cb4e69fa560cc1637e970d008cae329076ecb"
    assert data.sha256 == "102011e341e5a0927bfed9831b4dae395f4255b9d02649722ce2c662b7ebdf9f"


def test_images_are_copies():
    data = load_data("digits")
    data.test.images(torch.tensor([0])).zero_()
    assert data.test.images(torch.tensor([0])).sum() > 0


def test_a_data_set_passes_through():
    data = load_data("digits")
    assert load_data(data) is data
