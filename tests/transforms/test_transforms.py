"""What every transform must do."""

import pytest
import torch

from scotoma.execution.run import name
from scotoma.transforms import TRANSFORMS
from scotoma.transforms.affine import Rotate, Translate
from scotoma.transforms.blur import Blur
from scotoma.transforms.colour import Brightness, Hue, Saturation
from scotoma.transforms.composition import Composition
from scotoma.transforms.control import Control
from scotoma.transforms.gamma import Gamma
from scotoma.transforms.jpeg import JpegQuality
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.transforms.space import ORDER
from scotoma.transforms.texture import Texture
from scotoma.transforms.tint import Tint

IDENTITIES = [
    ScaleShift(1.0, 0.0),
    Gamma(1.0),
    Blur(0.0),
    Rotate(0.0),
    Translate(0.0, 0.0),
    Texture(0.0),
    Saturation(1.0),
    Hue(0.0),
    Brightness(0.0),
    Tint(),
    Control(Blur(0.0)),
]
CHANGES = [
    ScaleShift(0.8, 0.1),
    Gamma(0.5),
    Blur(0.8),
    Rotate(-12.0),
    Translate(0.7, -1.3),
    Texture(0.2, 1),
    Saturation(0.3),
    Hue(40.0),
    Brightness(-0.2),
    Tint(0.1, -0.05, 0.05),
    JpegQuality(20),
    Composition((Gamma(0.6), ScaleShift(0.8, 0.1))),
    Control(ScaleShift(0.8, 0.1)),
    Control(Rotate(12.0), 3),
]


def images(n: int = 20, shape: tuple[int, int, int] = (3, 9, 14)) -> torch.Tensor:
    """Colour, not square, with black and white pixels."""
    noise = torch.rand((n, *shape), generator=torch.Generator().manual_seed(0))
    return (1.6 * noise - 0.3).clamp(0, 1)


@pytest.mark.parametrize("transform", IDENTITIES, ids=repr)
def test_a_transform_of_no_strength_changes_nothing(transform):
    assert (transform(images()) - images()).abs().max() < 1e-6


@pytest.mark.parametrize("transform", CHANGES, ids=repr)
def test_images_in_images_out(transform):
    given = images()
    kept = given.clone()
    changed = transform(given)
    assert torch.equal(given, kept), "not in place"
    assert changed.shape == given.shape
    assert changed.dtype == torch.float32
    assert 0 <= changed.min() <= changed.max() <= 1
    assert (changed - given).abs().mean() > 0.01
    assert torch.equal(transform(given), changed)


@pytest.mark.parametrize("transform", CHANGES, ids=repr)
def test_an_image_is_changed_the_same_in_any_batch(transform):
    together = transform(images())
    for rows in (slice(0, 1), slice(3, 5), slice(7, 20)):
        assert (transform(images()[rows]) - together[rows]).abs().max() < 1e-6
    turned = images().contiguous(memory_format=torch.channels_last)
    assert (transform(turned) - together).abs().max() < 1e-6


@pytest.mark.parametrize("transform", CHANGES, ids=repr)
def test_its_name_builds_it_again_and_its_words_start_a_sentence(transform):
    assert eval(name(transform)) == transform
    assert hash(transform) == hash(eval(name(transform)))
    assert str(transform)[0].islower()
    assert str(transform) != repr(transform)


@pytest.mark.parametrize("family", sorted({*TRANSFORMS} - {"scale-shift"}))
def test_every_family_but_the_plane_says_which_strengths_the_map_tries(family: str):
    sweep = TRANSFORMS[family].sweep()
    assert {type(transform) for transform in sweep} == {TRANSFORMS[family]}
    assert len(set(sweep)) == len(sweep) > 1


@pytest.mark.parametrize("family", sorted(ORDER))
def test_a_point_of_the_search_is_that_of_its_transform(family: str):
    kind = TRANSFORMS[family]
    assert (kind.at(*[0.0] * kind.parameters)(images()) - images()).abs().max() < 0.02
    point = [0.5, -0.25][: kind.parameters]
    assert kind.at(*point).point == pytest.approx(point, abs=1e-3)
    assert kind.at(*kind.at(*point).point) == kind.at(*point)
