"""Analysis by synthesis: decoders, the search for latents, gradients, posterior, caching."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from scotoma.data.dataset import Dataset
from scotoma.models import ARCHITECTURES
from scotoma.models.classifier import Classifier, freeze
from scotoma.models.decoders import Decoders
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.models.vae import LATENT, ClassVAEs
from scotoma.reference import reference
from scotoma.utils.errors import InputError

SMALL = (1, 8, 8)


def vaes(shape: tuple[int, int, int] = SMALL, classes: int = 3) -> ClassVAEs:
    """Random weights and statistics that differ from a fresh network as trained ones do."""
    torch.manual_seed(0)
    network = ClassVAEs(shape, classes)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 1, 3)
            nn.init.normal_(layer.bias)
    freeze(network)
    return network


def model(**settings) -> AnalysisBySynthesis:
    classifier = AnalysisBySynthesis(vaes(), **{"samples": 200, "steps": 20, **settings})
    freeze(classifier)
    return classifier


def images(n: int) -> Tensor:
    return torch.rand(n, *SMALL, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 16, 20), (1, 10, 14)])
def test_images_come_back_in_their_size(shape: tuple[int, int, int]):
    network = vaes(shape, 4)
    batch = torch.rand(2, 4, *shape)
    reconstructions, mean, log_variance = network(batch, torch.Generator())
    assert reconstructions.shape == batch.shape
    assert mean.shape == log_variance.shape == (2, 4, LATENT)


@pytest.mark.parametrize("shape", [(1, 7, 8), (1, 9, 9), (1, 18, 18), (1, 15, 28)])
def test_sizes_that_the_decoder_cannot_make(shape: tuple[int, int, int]):
    with pytest.raises(InputError, match="multiples of 4"):
        ClassVAEs(shape, 2)


def test_windows_are_those_of_the_paper():
    network = ClassVAEs((1, 28, 28), 10)
    windows = [
        (layer.weight.shape[1], tuple(layer.kernel_size), layer.stride[0])
        for layer in network.decoder
        if isinstance(layer, nn.ConvTranspose2d)
    ]
    assert windows == [(32, (4, 4), 1), (16, (5, 5), 2), (16, (5, 5), 2), (1, (4, 4), 1)]
    encoder = [
        (layer.kernel_size[0], layer.stride[0])
        for layer in network.encoder
        if isinstance(layer, nn.Conv2d)
    ]
    assert encoder == [(5, 1), (4, 2), (3, 2), (5, 1)]


def test_classes_do_not_mix():
    """Another image, or another latent, of one class changes nothing for the others."""
    network = vaes()
    batch = torch.rand(4, 3, *SMALL)
    other = batch.clone()
    other[:, 1] = 0
    first, second = (network(each, torch.Generator().manual_seed(0))[0] for each in (batch, other))
    assert torch.equal(first[:, [0, 2]], second[:, [0, 2]])
    assert not torch.equal(first[:, 1], second[:, 1])


def test_decoders_are_the_networks_own():
    network = vaes()
    z = torch.randn(5, 3, LATENT)
    assert torch.allclose(Decoders(network).decode(z), network.decode(z), atol=1e-6)


def test_the_slope_is_that_of_autograd():
    """Of pairs that are not equally many of each class."""
    decoders, x, counts = Decoders(vaes()), images(5), [2, 0, 3]
    z = torch.randn(5, LATENT, requires_grad=True)
    of_class = torch.arange(3).repeat_interleave(torch.tensor(counts))
    decoded = decoders.decode(z[:, None].expand(-1, 3, -1))[torch.arange(5), of_class]
    missed = (x - decoded).square().flatten(1).sum(1)
    (expected,) = torch.autograd.grad(missed.sum(), z)
    errors, slope = decoders.slope(x, z.detach(), counts)
    assert torch.allclose(errors, missed, rtol=1e-5)
    assert torch.allclose(slope, expected, atol=1e-5)
    assert expected.abs().max() > 0.1


def test_the_search_is_that_of_adam():
    """Class by class and image by image, with torch's own optimizer from the best sample."""
    classifier, x = model(radius=1e9, race=False), images(3)
    result = classifier.synthesise(x)
    bank = classifier._kept.bank
    assert bank is not None
    for row in range(3):
        for label in range(3):
            pairs = (x[row] - bank.images[label].view(-1, *SMALL)).square().sum(
                (1, 2, 3)
            ) + bank.samples.square().sum(1) / 2
            z = bank.samples[pairs.argmin()].clone().requires_grad_()
            optimizer = torch.optim.Adam([z], classifier.rate)
            for _ in range(classifier.steps):
                optimizer.zero_grad()
                turns = z.expand(1, 3, -1)
                loss = (
                    x[row] - classifier.vaes.decode(turns)[0, label]
                ).square().sum() + z.square().sum() / 2
                loss.backward()
                optimizer.step()
            made_image = classifier.vaes.decode(z.expand(1, 3, -1))[0, label]
            loss = (x[row] - made_image).square().sum() + z.square().sum() / 2
            assert result.losses[row, label] == pytest.approx(float(loss.detach()), rel=1e-3)
            assert torch.allclose(result.images[row, label], made_image, atol=1e-2)


@pytest.mark.slow
def test_only_classes_that_cannot_win_leave_the_race(mnist: Dataset):
    """Clean, noisy and blended images keep labels and best losses, in half of the passes."""
    module, pairs = reference("mnist-abs", mnist).module, []
    synthesiser = next(part for part in module.modules() if isinstance(part, AnalysisBySynthesis))
    synthesiser.samples, synthesiser.race = 500, False
    x = mnist.test.images(torch.arange(8))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    x = torch.cat([x, (x + 0.2 * noise).clamp(0, 1), x.lerp(x.roll(1, 0), 0.5)])
    full = synthesiser.synthesise(x)
    assert synthesiser._kept.bank is not None
    decoders = synthesiser._kept.bank.decoders
    slope = decoders.slope

    def counted(images: Tensor, latents: Tensor, counts: list[int]) -> tuple[Tensor, Tensor]:
        pairs.append(sum(counts))
        return slope(images, latents, counts)

    decoders.slope = counted
    synthesiser.race = True
    raced = synthesiser.synthesise(x)
    assert torch.equal(full.losses.argmin(1), raced.losses.argmin(1))
    assert torch.allclose(full.losses.amin(1), raced.losses.amin(1), rtol=1e-3)
    assert (raced.losses >= full.losses * 0.98).all()
    assert sum(pairs) < synthesiser.steps * full.losses.numel() * 0.4


def test_one_class_and_no_images():
    classifier = AnalysisBySynthesis(vaes(classes=1), samples=50, steps=6)
    assert classifier(images(2)).shape == (2, 1)
    assert model()(images(0)).shape == (0, 3)


def test_latents_stay_in_their_ball_and_steps_help():
    x = images(4)
    short, long = model(radius=1.0).synthesise(x), model(steps=100).synthesise(x)
    assert short.latents.norm(dim=2).max() <= 1 + 1e-5
    assert (long.losses <= model(steps=0).synthesise(x).losses + 1e-4).all()


def test_samples_leave_out_the_least_likely_tenth():
    classifier = model()
    classifier(images(1))
    bank = classifier._kept.bank
    assert bank is not None
    drawn = torch.randn(222, LATENT, generator=torch.Generator().manual_seed(0))
    assert len(bank.samples) == 200
    assert bank.samples.norm(dim=1).max() == drawn.norm(dim=1).sort().values[199]


def test_an_image_is_explained_alike_in_any_batch():
    classifier, x = model(), images(8)
    together = classifier(x)
    assert torch.allclose(together, torch.cat([classifier(each[None]) for each in x]), rtol=1e-4)


def test_samples_can_be_drawn_anew():
    classifier, x = model(), images(4)
    first = classifier(x)
    classifier.draw(1)
    assert not torch.equal(classifier(x), first)
    classifier.draw(0)
    assert torch.equal(classifier(x), first)


@pytest.mark.slow
def test_the_gradient_with_latents_held_is_the_losses_own_where_the_search_has_ended():
    x = images(3)
    gradients = []
    for unrolled in (False, True):
        classifier = model(steps=300, unrolled=unrolled)
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(classifier(leaf)[:, 0].sum(), leaf)
        gradients.append(gradient.flatten(1))
    constant, through = gradients
    assert torch.cosine_similarity(constant, through).min() > 0.99
    classifier = model(steps=300)
    result = classifier.synthesise(x)
    expected = -classifier.sharpness * 2 * (x - result.images[:, 0])
    assert torch.allclose(constant, expected.flatten(1), atol=1e-4)


def test_unrolled_gradients_are_those_of_finite_differences():
    classifier, x = model(steps=5, unrolled=True), images(1)
    leaf = x.clone().requires_grad_()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(classifier(leaf)[0, 0], leaf)
    step = 1e-2
    slope = (classifier(x + step * direction) - classifier(x - step * direction))[0, 0] / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=0.05)


def test_binarised_images_are_all_that_the_binary_model_sees():
    classifier, x = model(binary=True), images(5)
    assert torch.equal(classifier(x), classifier((x >= 0.5).float()))
    assert torch.equal(classifier(torch.full((1, *SMALL), 0.5)), classifier(torch.ones(1, *SMALL)))


def test_the_posterior_is_calibrated_and_flat_where_nothing_explains():
    classifier = model()
    assert torch.allclose(classifier.posterior(images(3)).sum(1), torch.ones(3))
    floor = classifier.floor.exp()
    logits = torch.tensor([[-1.0, -3.0, -2.0], [-500.0, -600.0, -700.0]])
    by_hand = (logits.exp() + floor) / (logits.exp() + floor).sum(1, keepdim=True)
    assert torch.allclose(classifier.probabilities(logits), by_hand)
    assert torch.allclose(by_hand[1], torch.full((3,), 1 / 3))


def test_calibration_makes_the_labels_likeliest():
    module = model()
    x = module.vaes.decode(torch.randn(60, 3, LATENT, generator=torch.Generator().manual_seed(2)))
    labels = torch.arange(60) % 3
    x = x[torch.arange(60), labels] + 0.1 * torch.randn(
        60, *SMALL, generator=torch.Generator().manual_seed(3)
    )
    x = x.clamp(0, 1)
    module.calibrate(x, labels)
    chosen = float(module.sharpness)
    losses = module.synthesise(x).losses

    def likelihood(sharpness: float) -> float:
        return float(nn.functional.cross_entropy(-sharpness * losses, labels))

    assert likelihood(chosen) <= min(likelihood(chosen * 1.1), likelihood(chosen / 1.1)) + 1e-5
    own = -chosen * losses.gather(1, labels[:, None])
    assert (own < module.floor).float().mean() == pytest.approx(0.01, abs=0.02)


def test_what_is_kept_goes_with_the_weights():
    classifier, x = model(), images(2)
    first = classifier(x)
    other = model()
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.1)
    classifier.load_state_dict(other.state_dict())
    assert not torch.allclose(classifier(x), first)
    assert torch.allclose(classifier(x), other(x))


def test_its_hash_does_not_depend_on_what_it_was_asked():
    classifier = model()
    fresh = Classifier.of(copy.deepcopy(classifier)).sha256
    classifier(images(2))
    assert Classifier.of(classifier).sha256 == fresh
    assert Classifier.of(model(steps=21)).sha256 != fresh


@pytest.mark.parametrize("arch", ["cnn", "binary-cnn"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8)])
def test_the_baselines_take_all_sizes(arch: str, shape: tuple[int, int, int]):
    network = ARCHITECTURES[arch](shape, 7).eval()
    x = torch.rand(2, *shape)
    assert network(x).shape == (2, 7)
    assert torch.equal(network(x), network((x >= 0.5).float())) == (arch == "binary-cnn")


def test_the_cnn_is_that_of_the_paper():
    network = ARCHITECTURES["cnn"]((1, 28, 28), 10)
    weights = [25 * 20, 16 * 20 * 70, 9 * 70 * 256, 25 * 256 * 10]
    biases = [3 * 20, 3 * 70, 3 * 256, 10]  # of a convolution, and two of its normalisation
    assert sum(weight.numel() for weight in network.parameters()) == sum(weights) + sum(biases)
    with pytest.raises(InputError, match="at least 8x8"):
        ARCHITECTURES["cnn"]((1, 7, 9), 10)
