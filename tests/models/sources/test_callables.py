"""Any Python callable as a model, and what goes with which source."""

import numpy as np
import pytest
import torch

from scotoma.models.black_box import BlackBox, Function
from scotoma.models.hashing import callable_hash
from scotoma.models.loading import load_model
from scotoma.utils.errors import InputError


def test_a_callable_with_gradients_keeps_them(linear, digits, images):
    checked = load_model(lambda x: linear(x)).checked(digits)
    assert (checked.name, checked.notes) == ("<lambda>", ())
    assert type(checked.module) is Function
    assert torch.equal(checked.module(images), linear(images))


def test_a_callable_that_leaves_torch_is_a_black_box(linear, digits, images):
    def predict(x):
        return linear(torch.from_numpy(x.numpy())).detach().numpy().astype(np.float64)

    checked = load_model(predict).checked(digits)
    assert (checked.name, type(checked.module)) == ("predict", BlackBox)
    assert checked.module(images).dtype == torch.float32
    assert "black box without gradients" in checked.notes[0]


def test_a_callable_takes_the_range_that_is_said(linear, images):
    model = load_model(lambda x: linear(x / 255), value_range=(0, 255))
    assert torch.allclose(model.module(images), linear(images), atol=1e-4)


def test_a_callable_from_a_file(tmp_path, images):
    path = tmp_path / "mine.py"
    path.write_text("def build():\n    return lambda x: x.flatten(1)[:, :10]\n")
    assert torch.equal(load_model(f"{path}:build").module(images), images.flatten(1)[:, :10])


def test_errors_of_a_callable_are_one_line(digits):
    def broken(x):
        raise ValueError("no\nway")

    with pytest.raises(InputError, match=r"cannot take images of 1x8x8 from digits: no$"):
        load_model(broken).checked(digits)
    with pytest.raises(InputError, match=r"returns \(32,\) for 32 images"):
        load_model(lambda x: x.flatten(1).sum(1).numpy()).checked(digits)


class Scorer:
    def __init__(self, weight):
        self.weight = np.full((3, 3), weight)

    def __call__(self, x):
        return x

    def score(self, x):
        return x @ self.weight


def test_the_hash_follows_code_and_values(linear):
    def scaled(factor):
        return lambda x: factor * linear(x)

    assert callable_hash(scaled(2)) == callable_hash(scaled(2))
    assert callable_hash(scaled(2)) != callable_hash(scaled(3))
    first = callable_hash(scaled(2))
    with torch.no_grad():
        linear[1].bias[0] += 1
    assert callable_hash(scaled(2)) != first
    assert callable_hash(Scorer(1)) == callable_hash(Scorer(1)) != callable_hash(Scorer(2))
    assert callable_hash(Scorer(1).score) != callable_hash(Scorer(2).score)


def test_what_is_said_must_mean_something(linear, tmp_path, digits_model):
    for model in (linear, str(digits_model)):
        with pytest.raises(InputError, match=r"value_range=0:255 is not for it; value_range goes"):
            load_model(model, value_range="0:255")
        with pytest.raises(InputError, match="outputs=logits is not for it"):
            load_model(model, outputs="logits")
    for text in ("255", "1:0", "a:b", "0:1:2"):
        with pytest.raises(InputError, match=f"value_range={text}: want LOW:HIGH"):
            load_model(lambda x: x, value_range=text)
    with pytest.raises(InputError, match="outputs=scores: want logits or probabilities"):
        load_model(lambda x: x, outputs="scores")
    with pytest.raises(InputError, match="names nothing; see `scotoma list sources`"):
        load_model("hf:")


def test_outputs_that_are_said_are_compared_with_the_answers(linear, digits):
    model = load_model(lambda images: linear(images).numpy(), outputs="probabilities")
    with pytest.raises(InputError, match=r"which are no probabilities; say outputs=logits"):
        model.checked(digits)
