"""Each defence costs little, and hides its gradient as its paper's does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from once import once
from scotoma.models.checkpoint import load_checkpoint
from scotoma.models.defences import DEFENCES, defend
from scotoma.models.defences.activations import Sparsifier, Winners
from scotoma.models.defences.base import Fitted
from scotoma.models.defences.logits import ErrorCorrectingCode
from scotoma.models.defences.pixels import Jpeg, StiffFlow
from scotoma.models.defences.randomised import InputNoise, Noise, ResizePad
from scotoma.utils.errors import InputError

RANDOM = {"resize-pad", "input-noise", "layer-noise", "activation-pruning"}
FLAT = {"input-quantisation", "jpeg", "logit-rounding", "zero-backward"}
"""Defences whose logits have a gradient of zeros."""
CUT = {"thermometer", "hard-label", "vote"}
"""Defences whose logits have none."""
ZOO = Path(__file__).parents[3] / "zoo"
COST = 0.03
"""Accuracy that a defence may cost."""


@pytest.fixture(scope="module")
def defended(network, training) -> dict[str, nn.Module]:
    def make(path: Path) -> None:
        torch.save({name: defend(name, network, *training) for name in DEFENCES}, path)

    return torch.load(once("defended.pt", make), weights_only=False)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def gradient(model: nn.Module, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return the gradient of the largest logit, or of the cross-entropy at the labels."""
    leaf = images.clone().requires_grad_()
    logits = model(leaf)
    value = logits.amax(1).sum() if labels is None else F.cross_entropy(logits, labels)
    return torch.autograd.grad(value, leaf)[0]


@pytest.mark.parametrize("name", DEFENCES)
def test_a_defence_costs_little(defended, network, tested, name):
    torch.manual_seed(0)
    assert accuracy(network, *tested) > 0.95
    assert accuracy(defended[name], *tested) >= accuracy(network, *tested) - COST


@pytest.mark.parametrize("name", DEFENCES)
def test_logits_of_any_batch_without_a_trace(defended, network, tested, name):
    images, before = tested[0][:3], [value.clone() for value in network.parameters()]
    copy = images.clone()
    logits = defended[name](images)
    assert logits.shape == (3, 10)
    assert logits.isfinite().all()
    assert torch.equal(images, copy)
    assert not any(value.requires_grad for value in defended[name].parameters())
    assert all(map(torch.equal, before, network.parameters()))


@pytest.mark.parametrize("name", DEFENCES)
def test_random_ones_follow_the_seed_and_others_repeat(defended, tested, name):
    images = tested[0][:20]

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return defended[name](images).detach()

    first = run(0)
    assert torch.equal(run(0), first)
    # a draw of a size has few values
    others = any(not torch.equal(run(seed), first) for seed in range(1, 6))
    assert others == (name in RANDOM)


@pytest.mark.parametrize("name", DEFENCES)
def test_gradients(defended, tested, name):
    images = tested[0][:20]
    torch.manual_seed(0)
    if name in CUT:
        assert not defended[name](images.clone().requires_grad_()).requires_grad
    else:
        slope = gradient(defended[name], images)
        assert bool(slope.any()) == (name not in FLAT)
        assert slope.isfinite().all()


def test_scaled_logits_saturate_the_cross_entropy_and_not_the_logits(defended, tested):
    images = tested[0][:20]
    model = defended["logit-scaling"]
    assert gradient(model, images).any()
    assert not gradient(model, images, model(images).argmax(1)).any()


def test_distilled_logits_saturate_as_well(defended, network, tested):
    images = tested[0][:20]
    for model in (defended["distillation"], defend("distillation", network)):
        zero = gradient(model, images, model(images).argmax(1)).flatten(1).norm(dim=1) == 0
        assert gradient(model, images).flatten(1).any(1).all()
        assert zero.float().mean() > 0.7
        assert not (gradient(network, images, network(images).argmax(1)) == 0).all()
    scaled = defend("distillation", network)(images)
    assert torch.allclose(scaled, 100 * network(images), rtol=1e-4)


def test_code_words_are_far_apart_and_saturate(defended, network, tested):
    layer, images = defended["error-correcting-code"], tested[0][:50]
    code = ErrorCorrectingCode(network).code(10)
    assert torch.equal(code @ code.T, 16 * torch.eye(10) - 1)
    assert torch.equal(layer(images).argmax(1), network(images).argmax(1))
    zero = (gradient(layer, images).flatten(1) == 0).all(1)
    sure = network(images).softmax(1).amax(1) > 0.9999
    assert sure.any()
    assert zero[network(images).topk(2).values.diff(dim=1)[:, 0] < -12].all()


def test_pixels_flow_to_levels(tested):
    flow = StiffFlow(nn.Identity(), levels=6)
    images = torch.linspace(0, 1, 1001).view(1, 1, 1, -1)
    moved = flow(images)
    assert (moved - images).abs().max() < 0.2
    near = (5 * moved - (5 * moved).round()).abs() < 0.02
    assert near.float().mean() > 0.95
    slopes = gradient(flow, images)[0, 0, 0]
    assert slopes.abs().median() < 1e-2
    assert slopes.abs().max() > 10


def test_test_time_steps_confirm_the_prediction(defended, network, tested):
    images = tested[0][:50]
    model = defended["anti-adversary"]
    moved = model.perturbation(images)
    assert moved.abs().max() <= 0.3 + 1e-6
    predicted = network(images).argmax(1)
    before, after = (F.cross_entropy(network(x), predicted) for x in (images, images + moved))
    assert after < before
    with torch.no_grad():  # as an audit evaluates
        assert torch.equal(model(images), network(images + moved))


def test_purified_images_are_rebuilt_better(defended, tested):
    torch.manual_seed(0)
    model = defended["purification"]
    noisy = (tested[0] + 0.2 * torch.randn_like(tested[0])).clamp(0, 1)
    better = noisy + model.perturbation(noisy)
    errors = [(model.denoiser(x) - x).square().mean().item() for x in (noisy, better)]
    assert errors[1] < 0.7 * errors[0]


def test_the_autoencoder_removes_noise(defended, tested):
    torch.manual_seed(0)
    noisy = (tested[0] + 0.2 * torch.randn_like(tested[0])).clamp(0, 1)
    rebuilt = defended["autoencoder"].denoiser(noisy)
    assert (rebuilt - tested[0]).square().mean() < (noisy - tested[0]).square().mean()


def test_a_ripple_has_steep_gradients_that_turn(network, tested):
    model, images = defend("ripple", network), tested[0][:20].clamp(0.1, 0.9)
    here, there = (gradient(model, images + step) for step in (0, 0.003))
    assert here.norm() > 5 * gradient(network, images).norm()
    cosine = F.cosine_similarity(here.flatten(1), there.flatten(1)).mean()
    assert cosine < 0  # half a ripple further


def test_jpeg_keeps_what_its_table_resolves_and_any_size():
    torch.manual_seed(0)
    smooth = F.interpolate(torch.rand(2, 3, 2, 2), (13, 21), mode="bilinear")
    coded = Jpeg(nn.Identity())(smooth)
    assert coded.shape == smooth.shape
    assert (coded - smooth).abs().mean() < 0.02
    noise = torch.rand(2, 3, 16, 16)
    assert (Jpeg(nn.Identity(), quality=10)(noise) - noise).abs().mean() > 0.1
    transform = Jpeg(nn.Identity()).basis
    assert torch.allclose(transform @ transform.T, torch.eye(8), atol=1e-6)


def test_quantised_images_have_few_values(tested):
    for name, values in {"input-quantisation": 8, "thermometer": 17}.items():
        levels = DEFENCES[name](nn.Identity())(tested[0]).unique()
        assert len(levels) <= values
        assert levels.min() == 0
        assert levels.max() == 1


def test_resized_images_lie_inside_a_frame_of_zeros():
    torch.manual_seed(0)
    draws = [ResizePad(nn.Identity(), least=0.5)(torch.ones(2, 1, 10, 10)) for _ in range(20)]
    sides = {int((draw[0, 0] == 1).any(0).sum()) for draw in draws}
    assert len(sides) > 2
    assert min(sides) >= 5
    assert all(torch.equal(draw[0], draw[1]) for draw in draws)


def test_noise_has_its_size():
    torch.manual_seed(0)
    images = torch.full((1, 1, 200, 200), 0.5)
    for layer, sigma in ((InputNoise(nn.Identity(), 0.2), 0.2), (Noise(0.3), 0.3)):
        difference = layer(images) - images
        assert difference.std().item() == pytest.approx(sigma, rel=0.02)
        assert difference.mean().item() == pytest.approx(0, abs=0.01)


def test_pruning_is_right_on_average(network, tested):
    model = defend("activation-pruning", network)
    layer = next(part for part in model.modules() if type(part).__name__ == "Pruning")
    torch.manual_seed(0)
    values = torch.randn(1, 50)
    draws = torch.cat([layer(values) for _ in range(4000)])
    assert (draws == 0).any()
    assert torch.allclose(draws.mean(0), values[0], atol=0.08)


def test_winners_are_the_largest_and_jump():
    torch.manual_seed(0)
    values = torch.randn(4, 3, 5, 5)
    kept = Winners(0.2)(values)
    assert ((kept != 0).flatten(1).sum(1) == 15).all()
    assert (kept[kept != 0].min() >= 0) or (kept != 0).sum() == 60
    second, third = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.001, 2.0]])
    assert Winners(0.5)(second).tolist() == [[0, 2.0]]
    assert Winners(0.5)(third).tolist() == [[pytest.approx(2.001), 0]]


def test_mean_sparse_measures_channels_and_flattens_their_middle(network, training):
    model = defend("mean-sparse", network, *training)
    first = next(part for part in model.modules() if isinstance(part, Sparsifier))
    with torch.no_grad():
        before = network.conv1(training[0])
    assert torch.allclose(first.mean, before.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(first.deviation, before.std((0, 2, 3), correction=0), atol=1e-4)
    inside = first.mean.view(1, -1, 1, 1) + 0.2 * first.deviation.view(1, -1, 1, 1)
    assert torch.equal(first(inside).flatten(), first.mean)
    outside = first.mean.view(1, -1, 1, 1) + 0.3 * first.deviation.view(1, -1, 1, 1)
    assert torch.equal(first(outside), outside)


def test_votes_are_counts(defended, tested):
    votes = defended["vote"](tested[0])
    assert (votes.sum(1) == 5.5).all()
    assert set(votes.unique().tolist()) <= {i / 2 for i in range(12)}


def test_hard_labels_and_rounded_logits(defended, network, tested):
    images = tested[0][:50]
    plain = network(images)
    assert torch.equal(defended["hard-label"](images), F.one_hot(plain.argmax(1), 10).float())
    rounded = defended["logit-rounding"](images)
    assert torch.allclose(rounded, plain, atol=0.0501)
    assert torch.allclose(10 * rounded, (10 * rounded).round(), atol=1e-4)
    assert torch.equal(defended["zero-backward"](images), plain)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DEFENCES if issubclass(DEFENCES[name], Fitted)])
def test_fitting_follows_the_seed(training, name):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    models = [defend(name, network, *training, seed=seed) for seed in (0, 0, 1)]
    states = [torch.cat([v.flatten() for v in m.state_dict().values()]) for m in models]
    assert torch.equal(states[0], states[1])
    if name != "mean-sparse":  # which draws nothing
        assert not torch.equal(states[0], states[2])
    if not DEFENCES[name].works_unfitted:
        with pytest.raises(InputError, match="fitted on training images"):
            defend(name, network)


def test_layers_that_cannot_be_replaced_are_an_error():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    for name in ("k-winners", "activation-pruning", "mean-sparse"):
        with pytest.raises(InputError, match="no activation layer as a module"):
            defend(name, linear, torch.rand(2, 1, 2, 2), torch.tensor([0, 1]))


def test_one_layer_in_two_places_stays_one():
    shared = nn.ReLU()
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), shared, nn.Linear(4, 4), shared)
    model = defend("k-winners", net, torch.rand(8, 1, 2, 2), torch.arange(8) % 4)
    assert len({id(part) for part in model.modules() if isinstance(part, Winners)}) == 1
    assert net[2] is shared


@pytest.mark.slow
@pytest.mark.parametrize("name", DEFENCES)
def test_a_defence_of_the_mnist_network_costs_little(mnist, name, capsys):
    network = load_checkpoint(ZOO / "mnist-natural.safetensors")[0].eval()
    rows = torch.arange(10_000)
    model = defend(name, network, mnist.train.images(rows), mnist.train.labels[rows])
    images, labels = mnist.test.images(torch.arange(1000)), mnist.test.labels[:1000]
    torch.manual_seed(0)
    batches = list(zip(images.split(100), labels.split(100), strict=True))
    plain, costly = (
        sum(accuracy(each, *batch) for batch in batches) / len(batches) for each in (network, model)
    )
    with capsys.disabled():
        print(f"\n{name:25}{plain:.1%} {costly:.1%}", end="")
    assert costly >= plain - COST
