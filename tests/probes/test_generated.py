"""Generated images: samplers and their faults, the latent search, and the probe as a whole."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

import scotoma as package
from scotoma.claim import Claim
from scotoma.data.memory import from_memory
from scotoma.execution.run import Run
from scotoma.models.flow import GUIDANCE, flow
from scotoma.models.loading import load_model
from scotoma.models.synthesis import synthesis
from scotoma.probes.generated import probe as probed
from scotoma.probes.generated import small
from scotoma.probes.generated.generators import TRIAL, UserSampler, checked, load_generator
from scotoma.probes.generated.latent_search import latent_search
from scotoma.probes.generated.probe import Generated
from scotoma.probes.generated.report import verdict
from scotoma.results.finding import Gallery
from scotoma.results.judging import items, run_key
from scotoma.results.report import read_report
from scotoma.threat import Threat
from scotoma.training.loop import Schedule, train
from scotoma.training.plain import FlowMatching
from scotoma.utils.errors import InputError
from scotoma.utils.stats import difference, rate
from scotoma.validity import Validity
from scotoma.validity.oracle import Calibration

THREAT = Threat("linf", 0.1)
NONE = rate(np.zeros(0, bool))
LOW, HIGH = rate(np.arange(100) < 5), rate(np.arange(100) < 90)


class Trusting:
    """An oracle that accepts every image but those of one class, by the distance of their mean."""

    calibration = Calibration({"one": LOW}, LOW, LOW, LOW, LOW)

    def __init__(self, but: int = -1):
        self.but = but

    def judge(self, images, labels) -> Validity:
        fine = labels != self.but
        share = torch.ones(len(labels))
        return Validity(labels[:, None], fine, share, fine, images.flatten(1).mean(1).double())


def lighter(digits):
    """A sampler of training images with more background."""

    def sample(count, seed):
        rows = torch.randperm(1297, generator=torch.Generator().manual_seed(seed))[:count]
        return digits.train.images(rows) * 0.6 + 0.4, digits.train.labels[rows]

    return sample


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.full((4, 1, 8, 8), torch.nan), torch.arange(4), "NaN"),
        (torch.full((4, 1, 8, 8), 1.5), torch.arange(4), "pixels reach from 1.5 to 1.5"),
        (torch.zeros(4, 1, 9, 8), torch.arange(4), "images are 1x9x8; those of digits are 1x8x8"),
        (torch.zeros(3, 1, 8, 8), torch.arange(3), "want 4 of each"),
        (torch.zeros(4, 1, 8, 8), torch.arange(3), "want 4 of each"),
        (torch.zeros(4, 1, 8, 8), torch.arange(4) + 7, "labels reach from 7 to 10"),
        (torch.zeros(4, 1, 8, 8), torch.zeros(4), "want integers"),
        ("cats", torch.arange(4), "want tensors"),
    ],
)
def test_what_is_no_image_with_a_label_is_one_clear_line(digits, images, labels, message):
    sampler = UserSampler(lambda count, seed: (images, labels), "mine", "")
    with pytest.raises(InputError, match=message) as raised:
        checked(sampler, TRIAL, 0, digits)
    assert str(raised.value).startswith("generator mine")
    assert "\n" not in str(raised.value)


def test_a_sampler_in_a_file_is_loaded_seeded_and_its_errors_are_one_line(digits, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np, torch\n"
        "from helper import classes\n"
        "def bytes_(count, seed):\n"
        "    return (255 * torch.rand(count, 1, 8, 8)).to(torch.uint8), classes(count)\n"
        "def broken(count, seed):\n    raise RuntimeError('no weights\\nhere')\n"
        "def single(count, seed):\n    return np.zeros((count, 1, 8, 8))\n"
    )
    (tmp_path / "helper.py").write_text(
        "import numpy as np\ndef classes(count):\n    return np.arange(count) % 10\n"
    )
    generator = load_generator(f"{path}:bytes_")
    first, second = (checked(generator, TRIAL, 3, digits)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert 0 < first.max() <= 1
    with pytest.raises(InputError, match=r"mine\.py:broken raised RuntimeError: no weights"):
        checked(load_generator(f"{path}:broken"), TRIAL, 0, digits)
    with pytest.raises(InputError, match="returned ndarray; want"):
        checked(load_generator(f"{path}:single"), TRIAL, 0, digits)
    with pytest.raises(InputError, match="no function 'sample'"):
        load_generator(f"{path}:sample")
    with pytest.raises(InputError, match="generates no images"):
        load_generator(nn.Linear(2, 2))


def test_decoders_make_images_of_all_classes_with_gradients(digits):
    generator = load_generator(synthesis((1, 8, 8), 10))
    images, labels, latents = checked(generator, 25, 0, digits)
    assert latents is not None
    assert labels.bincount().tolist() == [3] * 5 + [2] * 5
    assert generator.decode is not None
    leaf = latents.requires_grad_()
    decoded = generator.decode(leaf, labels)
    assert torch.allclose(decoded, images, atol=1e-6)
    decoded.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().sum(1).min() > 0


@pytest.mark.slow
def test_a_flow_carries_noise_to_images_of_the_classes_that_it_was_trained_on(tmp_path):
    """Two classes of constant images: dark and light."""
    labels = torch.arange(200) % 2
    images = (0.2 + 0.6 * labels.float()).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    data = from_memory((images[:20], labels[:20]), (images, labels))
    schedule = Schedule(24, 20, peak=3e-3)
    path = tmp_path / "flow.safetensors"
    train("generator", data, "flow", THREAT, path, schedule=schedule)
    generator = load_generator(str(path))
    made, classes, latents = checked(generator, 40, 0, data)
    assert latents is not None
    assert latents.shape == (40, 16)
    means = made.flatten(1).mean(1)
    assert means[classes == 0].tolist() == pytest.approx([0.2] * 20, abs=0.25)
    assert means[classes == 1].tolist() == pytest.approx([0.8] * 20, abs=0.25)
    flow = generator.flow  # type: ignore[attr-defined]
    assert (flow(images[:20]).argmax(1) == labels[:20]).all()


def test_few_small_images_get_a_generator_that_is_trained_once(monkeypatch, tmp_path, linear):
    images, labels = torch.rand(30, 1, 8, 8), torch.arange(30) % 10
    claim = Claim(load_model(linear), from_memory((images, labels), (images, labels)), THREAT)
    run = Run(claim, tmp_path / "run")
    assert small.default_generator(claim, run) is None, "in tests no images are few"
    monkeypatch.setattr(small, "MOST_IMAGES", 30)
    monkeypatch.setattr(small, "STEPS", 2)
    first = small.default_generator(claim, run)
    monkeypatch.setattr(small, "train", None)
    again = small.default_generator(claim, run)
    assert first is not None
    assert again is not None
    assert first.sha256 == again.sha256
    assert checked(load_generator(first), 3, 0, claim.data)[0].shape == (3, 1, 8, 8)


@pytest.mark.parametrize("data", ["cifar-10", "mnist"])
def test_data_with_a_generative_reference_model_needs_no_generator(tmp_path, linear, data):
    images, labels = torch.rand(30, 1, 8, 8), torch.arange(30) % 10
    named = replace(from_memory((images, labels)), name=data)
    claim = Claim(load_model(linear), named, THREAT)
    generator = small.default_generator(claim, Run(claim, tmp_path / "run"))
    assert generator is not None
    assert generator.card["data"] == data
    assert load_generator(generator).decode is not None


def test_a_flow_of_larger_images_has_gradients_by_its_noise():
    network = flow((3, 20, 18), 4)
    noise = torch.randn(2, 3 * 20 * 18, requires_grad=True)
    network.field.last[2].bias.data += 1.0  # type: ignore[index, union-attr]
    made = network.decode(noise, torch.tensor([0, 3]))
    assert made.shape == (2, 3, 20, 18)
    made.sum().backward()
    assert noise.grad is not None
    assert noise.grad.abs().sum(1).min() > 0


def test_samples_of_larger_images_go_beyond_the_velocity_of_their_class():
    network = flow((3, 20, 18), 4)
    network.field.last[2].weight.data.normal_()  # type: ignore[index, union-attr]
    points, time, labels = torch.randn(2, 3, 20, 18), torch.tensor([0.1, 0.6]), torch.tensor([3, 0])
    none, own = (network.velocity(points, time, each) for each in (labels * 0 + 4, labels))
    assert not torch.allclose(none, own, atol=1e-3)
    guided = network.guided(points, time, labels)
    assert torch.allclose(guided, none + GUIDANCE * (own - none), atol=1e-4)
    small = flow((1, 8, 8), 4)
    assert len(small.kind.weight) == 4, "no class stands for none"
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(small.guided(images, time, labels), small.velocity(images, time, labels))


def test_a_guided_flow_learns_no_class_in_place_of_some_labels(monkeypatch):
    network, labels = flow((3, 20, 18), 4), torch.arange(400) % 4
    seen: list[torch.Tensor] = []

    def velocity(points, time, classes):
        seen.append(classes)
        return points * network.field.last[2].bias.sum()  # type: ignore[index, union-attr]

    monkeypatch.setattr(network, "velocity", velocity)
    recipe, random = FlowMatching(THREAT), torch.Generator().manual_seed(0)
    recipe(network, torch.rand(400, 3, 20, 18), labels, 0.5, random).backward()
    unknown = seen[0] == 4
    assert 20 <= int(unknown.sum()) <= 60
    assert torch.equal(seen[0][~unknown], labels[~unknown])


def test_a_latent_search_finds_the_boundary_of_a_linear_model_and_stays_near():
    """logit 0 less logit 1 is z[0] + 1: a step of -1 crosses, if the radius allows it."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model[1].weight.data = torch.tensor([[1.0, 0, 0, 0], [0.0, 0, 0, 0]])
    model[1].bias.data = torch.tensor([1.0, 0.0])

    def decode(z, labels):
        return z.view(-1, 1, 2, 2)

    start, labels = torch.zeros(3, 4), torch.tensor([0, 0, 1])
    far = latent_search(model, decode, start, labels, steps=30, reach=1.0)
    assert (far.margins < 0).all()
    assert far.moved[2] == 0, "an image that is wrong already stays"
    assert far.moved[:2].tolist() == pytest.approx([0.55, 0.55], abs=0.06)
    near = latent_search(model, decode, start, labels, steps=30, reach=0.25)
    assert near.margins[:2].tolist() == pytest.approx([0.5, 0.5], abs=1e-4)
    assert near.images.flatten(1).norm(dim=1).max() <= 0.5 + 1e-5


def test_the_verdict_needs_the_interval_of_the_difference():
    assert verdict(HIGH, LOW, difference(HIGH, LOW)) == "broken"
    some = rate(np.arange(100) < 30)
    assert verdict(some, LOW, difference(some, LOW)) == "weak"
    assert verdict(LOW, LOW, difference(LOW, LOW)) == "holds"
    few = rate(np.zeros(3, bool))
    assert verdict(few, few, difference(few, few)) == "undecided"
    assert verdict(HIGH, HIGH, difference(HIGH, HIGH)) == "not applicable"
    assert verdict(NONE, LOW, difference(NONE, LOW)) == "not applicable"


def test_the_interval_of_a_difference_is_newcombe_s():
    """Newcombe 1998, table II, case (a): 56/70 - 48/80, method 10."""
    estimate = difference(rate(np.arange(70) < 56), rate(np.arange(80) < 48))
    assert estimate[:3] == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    assert np.isnan(difference(NONE, LOW).low)


@pytest.fixture
def audited(digits, linear_grey, monkeypatch, tmp_path):
    """Audit a linear model on generated images, with an oracle that accepts them."""

    def run(oracle=None, **options):
        monkeypatch.setattr(probed, "oracle_for", lambda run: oracle or Trusting())
        return package.audit(
            linear_grey,
            replace(digits, classes=tuple("abcdefghij")),
            "linf:0.1",
            probes=["robustness", Generated(**options)],
            attack="pgd",
            limit=60,
            out=tmp_path / "run",
        )

    return run


@pytest.mark.usefixtures("undrawn")
def test_valid_images_are_attacked_and_are_no_rows_of_the_test_set(audited, digits, tmp_path):
    report = audited(Trusting(but=3), generator=lighter(digits), images=80)
    finding = report["generated"]
    labels = lighter(digits)(80, 0)[1]
    assert finding.numbers["n"] == 80
    assert finding.numbers["valid"] == pytest.approx(float((labels != 3).float().mean()))
    rows = {row["images"]: row for row in finding.tables["sets"]}
    assert rows["generated, valid"]["n"] == int((labels != 3).sum())
    assert rows["test set"]["n"] == 60
    base = report["robustness"].numbers["attack_success"]
    assert finding.numbers["base_success_eps"] == base
    records = pl.read_parquet(tmp_path / "run" / "records.parquet")
    assert set(records["transform"]) == {"none"}
    assert records["index"].n_unique() == 60
    assert finding.images["rejected"].shape[1:] == (1, 1, 8, 8)
    (shown,) = (each for each in finding.figures if each.name == "rejected")
    assert isinstance(shown, Gallery)
    assert all(re.match(r"for 3 \(d\); judged \d \([a-j]\)", line) for (line,) in shown.captions)
    adversarial = finding.images["fooled"]
    assert np.abs(adversarial[:, 0] - adversarial[:, 1]).max() <= 0.1 + 1e-5


def test_an_adversarial_image_of_the_report_fools_the_model(audited, digits, linear_grey):
    finding = audited(generator=lighter(digits), images=40)["generated"]
    images = torch.from_numpy(finding.images["fooled"])
    predictions = linear_grey(images.flatten(0, 1)).argmax(1).view(-1, 2)
    captions = next(each for each in finding.figures if each.name == "fooled").captions
    for (before, after), (label, then) in zip(predictions.tolist(), captions, strict=True):
        assert label == f"{before} ({'abcdefghij'[before]})"
        assert f"classified as {after} ({'abcdefghij'[after]})," in then


@pytest.mark.usefixtures("undrawn")
def test_a_search_judges_what_it_finds(audited):
    torch.manual_seed(0)
    report = audited(Trusting(), generator=synthesis((1, 8, 8), 10), images=30)
    numbers = report["generated"].numbers
    assert numbers["search_valid"] == 1.0, "it starts from valid images and keeps their class"
    assert numbers["search_success_eps"] >= numbers["search_misclassified"]
    assert len(report["generated"].tables["sets"]) == 3


def test_a_generator_of_images_that_are_mostly_rejected_does_not_apply(audited, digits):
    class Strict(Trusting):
        def judge(self, images, labels):
            validity = super().judge(images, labels)
            return validity._replace(valid=labels < 2)

    finding = audited(Strict(), generator=lighter(digits), images=50)["generated"]
    share = float((lighter(digits)(50, 0)[1] < 2).float().mean())
    assert finding.verdict == "not applicable"
    assert f"({share:.1%} of images" in finding.headline
    assert "at least half have to be valid" in finding.headline
    assert "sets" not in finding.tables


@pytest.mark.usefixtures("undrawn")
def test_copies_count_once(audited, digits):
    def repeating(count, seed):
        images, labels = lighter(digits)(count, seed)
        return images[torch.arange(count) % 30], labels[torch.arange(count) % 30]

    finding = audited(generator=repeating, images=80)["generated"]
    once = audited(generator=lighter(digits), images=30)["generated"]
    assert (finding.numbers["n"], finding.numbers["copies"], once.numbers["copies"]) == (30, 50, 0)
    assert finding.numbers["success_eps_high"] == once.numbers["success_eps_high"]
    assert " of 30 different images by " in finding.headline
    assert "50 of 80 generated images repeat another one" in finding.notes[0]


@pytest.mark.parametrize(
    ("distinct", "images", "says"),
    [
        (19, 19, "accepts 19 of 19 images by .*at least 20 valid ones are needed. Audit more"),
        (1, 40, "accepts 1 of 1 different image by .*other 39 images repeat these: use"),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_too_few_valid_images_are_said_with_what_to_do(audited, digits, distinct, images, says):
    def sample(count, seed):
        images, labels = lighter(digits)(count, seed)
        return images[torch.arange(count) % distinct], labels[torch.arange(count) % distinct]

    finding = audited(generator=sample, images=images)["generated"]
    assert finding.verdict == "not applicable"
    assert re.search(says, finding.headline)


def test_a_bad_generator_ends_the_command_with_status_2(scotoma, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\nfrom torch import nn\n"
        "def f(n, seed):\n    return torch.full((n, 1, 8, 8), 2.0), torch.arange(n)\n"
        "def net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    ended = scotoma(
        *("audit", f"{path}:net", "--data", "digits", "--threat", "linf:0.1"),
        *(
            "--probes",
            "generated",
            "--generator",
            f"{path}:f",
            "--out",
            tmp_path / "run",
            "--force",
        ),
    )
    assert ended.code == 2
    assert ended.err.strip().count("\n") == 0
    assert "pixels reach from 2 to 2" in ended.err
    assert not (tmp_path / "run").exists()


def test_people_judge_the_images_and_the_report_shows_it(audited, digits, scotoma, tmp_path):
    audited(Trusting(but=3), generator=lighter(digits), images=60)
    folder, answers = tmp_path / "run", tmp_path / "answers.csv"
    assert scotoma("judge", folder).code == 0
    assert (folder / "judge.html").stat().st_size > 10_000
    report = read_report(folder)
    shown = items(report)
    assert {item.kind for item in shown} == {"test", "wrong label", "valid", "rejected"}
    key = run_key(report.findings)
    seen = [(item.label + (item.kind == "wrong label")) % 10 for item in shown]
    lines = [f"{key},{item.id},{label},1" for item, label in zip(shown, seen, strict=True)]
    answers.write_text("\n".join(["run,id,answer,seconds", *lines]))
    ended = scotoma("judge", folder, "--answers", answers)
    assert ended.code == 0, ended.err
    assert "see the intended class in 100.0%" in ended.out
    twice = scotoma("judge", folder, "--answers", answers, "--answers", answers)
    assert (twice.code, "give each person's once" in twice.err) == (2, True)
    assert read_report(folder)["judge"].verdict == "holds"
    assert "Do people see the classes" in (folder / "report.html").read_text()
    assert scotoma("verify", folder).code == 0
    audited(Trusting(but=3), generator=lighter(digits), images=60)
    assert read_report(folder)["judge"].verdict == "holds", "the same audit again keeps it"
    answers.write_text("run,id,answer\nother,a,1\n")
    assert scotoma("judge", folder, "--answers", answers).code == 2
