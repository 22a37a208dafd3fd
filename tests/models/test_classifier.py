"""What is noticed about a model before it is audited."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scotoma.attacks.adaptive.look import look
from scotoma.attacks.core.batch import Batch
from scotoma.data import load_data
from scotoma.data.memory import from_memory
from scotoma.models import ARCHITECTURES
from scotoma.models.classifier import DRAWS, Classifier, LogProbabilities, is_randomised, votes
from scotoma.models.loading import load_model
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness


class Then(nn.Module):
    """A dense layer and what the test makes of its input and its logits."""

    def __init__(self, before=lambda images: images, after=lambda logits: logits, classes=10):
        super().__init__()
        torch.manual_seed(1)
        self.fc = nn.Linear(64, classes)
        self.before, self.after = before, after

    def forward(self, images):
        return self.after(self.fc(self.before(images).flatten(1)))


def check(*args, **kwargs) -> Classifier:
    return Classifier.of(Then(*args, **kwargs), "mine").checked(load_data("digits"))


def test_a_sound_model_is_left_alone(net, digits):
    classifier = Classifier.of(net, "mine", {"recipe": "natural"})
    checked = classifier.checked(digits)
    assert checked == classifier
    assert checked.module is net


def replaced(logits, value):
    return logits.index_fill(1, torch.tensor([3]), value)


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (lambda logits: replaced(logits, torch.nan), "NaN or infinite logits"),
        (lambda logits: replaced(logits, -torch.inf), "NaN or infinite logits"),
        (lambda logits: logits[:, :7], "has 7 outputs, but digits has labels up to 9"),
        (lambda logits: 1e30 * logits, "with which gradients overflow; divide them by a constant"),
        (
            lambda logits: logits[:, 0],
            r"returns \(32,\) for 32 images; want logits of shape \(32, classes\)",
        ),
        (lambda logits: logits[:, :, None, None], r"returns \(32, 10, 1, 1\)"),
        (lambda logits: logits.T, r"returns \(10, 32\)"),
        (lambda logits: (logits, logits), "returns tuple"),
        (lambda logits: {"logits": logits}, "returns dict"),
        (lambda logits: logits.numpy(), "returns ndarray"),
        (lambda logits: logits.nothing, "no attribute 'nothing'"),
        (lambda logits: [][0], "list index out of range"),
    ],
)
def test_unusable_answers_are_one_line(after, says):
    with pytest.raises(InputError, match=says) as error:
        check(after=after)
    assert "mine" in str(error.value)
    assert "\n" not in str(error.value)


def test_images_of_another_size_are_told(digits):
    classifier = Classifier.of(ARCHITECTURES["small-cnn"]((1, 28, 28), 10), "mine")
    with pytest.raises(
        InputError, match="mine cannot take images of 1x8x8 from digits: mat1 and mat2"
    ):
        classifier.checked(digits)
    with pytest.raises(InputError, match="cannot take images of 1x8x8"):
        Classifier.of(ARCHITECTURES["small-cnn"]((3, 8, 8), 10)).checked(digits)


def test_images_changed_in_place_are_told():
    with pytest.raises(InputError, match="changes its input in place"):
        check(before=lambda images: images.sub_(0.5))


def test_more_outputs_than_classes_are_noted():
    (note,) = check(classes=1000).notes
    assert "1000 outputs" in note
    assert "digits has 10" in note


def test_probabilities_become_logits(images):
    checked = check(after=lambda logits: logits.softmax(1))
    (note,) = checked.notes
    assert "probabilities" in note
    assert isinstance(checked.module, LogProbabilities)
    assert torch.allclose(checked.module(images), Then()(images).log_softmax(1), atol=1e-6)


def test_outputs_of_a_sigmoid_are_noted():
    (note,) = check(after=torch.sigmoid).notes
    assert "as after a sigmoid" in note


def test_log_probabilities_are_logits():
    assert check(after=lambda logits: logits.log_softmax(1)).notes == ()


def test_saturated_probabilities_stay_finite(images):
    checked = check(after=lambda logits: (1e4 * logits).softmax(1).half())
    assert checked.module(images).isfinite().all()


def noise(images):
    return images + 0.5 * torch.randn_like(images)


def test_a_randomised_model_is_marked_and_its_answer_is_a_vote_of_draws(images):
    checked = check(before=noise)
    (note,) = checked.notes
    assert "randomised" in note
    assert f"half of {DRAWS} fresh" in note
    assert is_randomised(checked.module)
    assert not is_randomised(check().module)
    torch.manual_seed(7)
    first = checked.module(images)
    assert not torch.equal(checked.module(images), first)
    torch.manual_seed(7)
    assert torch.equal(checked.module(images), first)


def test_votes_are_shares_of_draws():
    draws = [torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0.0, 3.0, 0.0]])] * 2
    draws.append(draws[0])
    shares = votes(draws).exp()
    assert torch.allclose(shares, torch.tensor([[0.6, 0.4, 0.0]]), atol=2e-3)
    assert shares.argmax() == 0


def test_random_probabilities_are_averaged_before_the_logarithm(images):
    checked = check(before=noise, after=lambda logits: logits.softmax(1))
    assert len(checked.notes) == 2
    assert torch.allclose(checked.module(images).exp().sum(1), torch.ones(5), atol=1e-5)


def test_checking_is_repeatable_and_leaves_the_random_state(digits):
    classifier = Classifier.of(Then(before=noise))
    notes = []
    for seed in (11, 12):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        notes.append(classifier.checked(digits).notes)
        assert torch.equal(torch.get_rng_state(), before)
    assert notes[0] == notes[1]


def test_a_batch_size_that_fails_is_told():
    def few(images):
        if len(images) not in (1, 32):
            raise ValueError("want 1 or 32")
        return images

    with pytest.raises(InputError, match=r"fails on a batch of 3 \(want 1 or 32\)"):
        check(before=few)


def test_batch_statistics_are_noted():
    (note,) = check(before=lambda images: F.batch_norm(images, None, None, training=True)).notes
    assert "depends on the other images in its batch" in note


def test_noise_that_is_the_same_each_time_is_noted():
    def seeded(images):
        return images + torch.rand(images.shape, generator=torch.Generator().manual_seed(0))

    (note,) = check(before=seeded).notes
    assert "depends on the other images in its batch" in note


def test_dropout_and_batch_norm_are_silent_in_eval_mode(digits):
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 10)
    ).train()
    assert Classifier.of(net).checked(digits).notes == ()


@pytest.mark.parametrize(
    ("before", "says"),
    [
        (lambda images: (images > 0.5).float(), "No gradient reaches"),
        (lambda images: images.detach(), "No gradient reaches"),
        (lambda images: torch.round(4 * images) / 4, "A gradient of zeros reaches"),
        (lambda images: (images - images + 0).sqrt() + images, "A gradient of NaN reaches"),
    ],
)
def test_gradients_that_are_of_no_use_are_noted(before, says):
    (note,) = check(before=before).notes
    assert says in note


class NoWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images):
        return images * 1

    @staticmethod
    def backward(ctx, *gradients):
        raise NotImplementedError("one way\nonly")


def test_a_backward_pass_that_fails_is_told():
    with pytest.raises(InputError, match=r"mine has no gradient by images of digits: one way$"):
        check(before=NoWayBack.apply)


def test_labels_that_do_not_occur_are_no_classes():
    """Images of digit 3 alone have labels up to 3, not 4 classes."""
    images = torch.rand(6, 1, 8, 8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    few = from_memory((images, torch.full((6,), 3)))
    assert "tensors has labels up to 3: class numbers" in load_model(model).checked(few).notes[0]
    all_four = from_memory((images, torch.tensor([0, 1, 2, 3, 3, 3])))
    assert "tensors has 4 classes: class numbers" in load_model(model).checked(all_four).notes[0]


@pytest.mark.parametrize("flat", [False, True])
def test_one_logit_for_two_classes_is_explained(flat):
    data = from_memory((torch.rand(6, 1, 8, 8), torch.tensor([0, 1] * 3)))
    layers = [nn.Flatten(), nn.Linear(64, 1), *([nn.Flatten(0)] if flat else [])]
    says = r"torch.stack\(\[0" if flat else r"has 1 output, .*one output a class.*torch.cat\(\[0"
    with pytest.raises(InputError, match=says):
        load_model(nn.Sequential(*layers)).checked(data)


class Stored(nn.Module):
    """Random only on images that are not stored with the 17 levels of the digits."""

    def forward(self, images):
        values = images.flatten(1)
        odd = (16 * values - (16 * values).round()).abs().amax(1, keepdim=True) > 1e-4
        return values[:, :10] + odd * torch.randn(len(images), 10)


def test_a_model_that_is_random_on_attacked_images_alone_is_marked(digits):
    checked = Classifier.of(Stored()).checked(digits)
    assert is_randomised(checked.module)
    images = digits.test.images(torch.arange(24))
    labels = checked.module(images).argmax(1)
    result = look(
        Batch(checked.module, images, labels, Randomness.default(images)), Threat("linf", 0.1)
    )
    assert result.shows("random")


class Reusing(nn.Module):
    """Writes its logits into the same memory at every call, as engines of other libraries do."""

    def __init__(self):
        super().__init__()
        self.own: dict[int, torch.Tensor] = {}

    def forward(self, images):
        buffer = self.own.setdefault(len(images), torch.empty(len(images), 10))
        return buffer.copy_(images.flatten(1)[:, :10])


def test_a_model_that_overwrites_its_logits_is_refused(digits):
    for model in (Reusing(), Reusing().forward):
        with pytest.raises(InputError, match=r"returns the same memory .* return logits.clone\(\)"):
            load_model(model).checked(digits)


def test_a_model_that_always_returns_the_same_logits_is_not_refused(digits):
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.arange(320.0).view(32, 10))

        def forward(self, images):
            return self.logits[: len(images)]

    Classifier.of(Constant()).checked(digits)


def test_one_output_is_no_classifier():
    images, labels = torch.rand(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(InputError, match="has 1 output, but tensors has labels up to 0"):
        Classifier.of(Then(classes=1)).checked(from_memory((images, labels)))
