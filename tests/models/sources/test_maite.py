"""Objects of the MAITE protocol: nothing is declared, so answers tell or the user says."""

import numpy as np
import pytest
import torch

from scotoma.models.loading import load_model
from scotoma.models.sources.maite import of_protocol
from scotoma.models.sources.opening import Opening
from scotoma.utils.errors import InputError

CODE = """import numpy as np
class Model:
    metadata = {"id": "digits of mine", "index2label": {i: f"digit {i}" for i in range(10)}}
    def __call__(self, batch):
        return [np.asarray(x).reshape(-1)[:10] for x in batch]
made = Model()
def build():
    return Model()
other = 3
class NoModel:
    pass
"""


class Model:
    def __init__(self, net, scale=1.0, end=lambda logits: logits):
        self.net, self.scale, self.end = net, scale, end
        self.metadata = {"id": "mine", "index2label": {i: f"digit {i}" for i in range(10)}}

    def __call__(self, batch):
        with torch.no_grad():
            images = torch.from_numpy(np.stack(batch)) * self.scale
            return list(self.end(self.net(images)).numpy())


def load(model, **said):
    return of_protocol(model, "mine.py:made", Opening.of(**said))


def test_the_protocol():
    generic = pytest.importorskip("maite.protocols.generic", reason="maite is not installed")
    assert isinstance(Model(None), generic.Model)


def test_an_object_says_its_name_and_classes(linear, digits, images):
    model = load(Model(linear), value_range=(0, 1))
    assert model.name == "mine"
    assert model.classes == tuple(f"digit {i}" for i in range(10))
    checked = model.checked(digits)
    assert torch.allclose(checked.module(images), linear(images), atol=1e-5)
    assert checked.module.outputs == "logits"


def test_what_is_not_declared_is_found_out(linear, digits, images):
    model = Model(linear, 1 / 255, lambda logits: logits.softmax(1))
    checked = load(model).checked(digits)
    assert checked.notes[0].startswith("The model gets pixels in [0, 255], because it classifies")
    assert any("returns probabilities" in note for note in checked.notes)
    expected = linear(images).softmax(1).log()
    assert torch.allclose(checked.module(images), expected, atol=1e-3)


def test_what_answers_do_not_tell_is_asked_for(linear, digits):
    with pytest.raises(InputError, match=r"which pixels it takes.*add value_range=LOW:HIGH"):
        load(Model(linear)).checked(digits)  # its predictions hardly depend on the range
    scores = Model(linear, end=torch.sigmoid)
    with pytest.raises(InputError, match=r"neither clearly logits .* add outputs=logits"):
        load(scores, value_range="0:1").checked(digits)
    assert load(scores, value_range="0:1", outputs="logits").checked(digits)


def test_from_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    for name in ("made", "Model", "build"):
        assert load_model(f"maite:{path}:{name}").name == "digits of mine"
    expected = {
        f"{path}:other": "is int, not a function",
        f"{path}:NoModel": "NoModel is no MAITE model; want a callable with metadata",
        f"{path}:mode": "has no function 'mode'; did you mean 'made'",
        f"{tmp_path}/none.py:made": "no such file",
        "mine": "want maite:MODULE:OBJECT",
        "no_such_module:made": "importing it raised",
    }
    for rest, says in expected.items():
        with pytest.raises(InputError, match=says) as error:
            load_model(f"maite:{rest}")
        assert "\n" not in str(error.value)


def test_answers_of_a_wrong_shape(digits):
    short = Model(lambda images: images.flatten(1)[:, :3])
    with pytest.raises(InputError, match="has 3 outputs, but digits has labels up to 9"):
        load(short, value_range="0:1").checked(digits)
    short = Model(lambda images: torch.zeros(1))
    with pytest.raises(InputError, match=r"returns \(1,\) for 32 images|cannot take images"):
        load(short, value_range="0:1").checked(digits)
