"""Classifiers of transformers, whose processors move into the model."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import scotoma
from scotoma.data.memory import from_memory
from scotoma.models.inspection import inspect
from scotoma.models.loading import load_model
from scotoma.models.preparation import Prepared
from scotoma.models.sources.transformers import TOLERANCE
from scotoma.utils.errors import InputError

NAMES = {0: "ant", 1: "bee", 2: "cat"}
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 8,
}

SIZED = [("vit", 32), ("convnext", 64)]
"""Networks whose images need no resizing."""


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("transformers", reason="transformers is not installed")
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


@pytest.fixture(scope="module")
def folders(library, tmp_path_factory):
    """Folders as `save_pretrained` writes them: a network with random weights, and a processor."""
    names = {"id2label": NAMES, "label2id": {name: i for i, name in NAMES.items()}}
    stages = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
    pairs = {
        "vit": (
            library.ViTForImageClassification(library.ViTConfig(**SMALL, **names)),
            library.ViTImageProcessor(size={"height": 32, "width": 32}),
        ),
        "deit": (
            library.DeiTForImageClassification(library.DeiTConfig(**SMALL, **names)),
            library.DeiTImageProcessor(
                size={"height": 41, "width": 41}, crop_size={"height": 32, "width": 32}
            ),
        ),
        "convnext": (
            library.ConvNextForImageClassification(library.ConvNextConfig(**stages, **names)),
            library.ConvNextImageProcessor(size={"shortest_edge": 64}),
        ),
        "resnet": (
            library.ResNetForImageClassification(
                library.ResNetConfig(embedding_size=8, **stages, **names)
            ),
            library.ConvNextImageProcessor(
                size={"shortest_edge": 64}, image_mean=[0.485, 0.456, 0.406]
            ),
        ),
        "bgr": (
            library.ResNetForImageClassification(
                library.ResNetConfig(embedding_size=8, **stages, **names)
            ),
            library.MobileViTImageProcessor(
                size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}
            ),
        ),
        "grey": (
            library.ViTForImageClassification(library.ViTConfig(num_channels=1, **SMALL)),
            library.ViTImageProcessor(
                size={"height": 32, "width": 32}, image_mean=[0.5], image_std=[0.5]
            ),
        ),
        "perceiver": (
            library.ViTForImageClassification(library.ViTConfig(**SMALL, **names)),
            library.PerceiverImageProcessor(
                size={"height": 32, "width": 32}, crop_size={"height": 36, "width": 36}
            ),
        ),
    }
    root = tmp_path_factory.mktemp("hub")
    for name, (network, processor) in pairs.items():
        network.save_pretrained(root / name)
        processor.save_pretrained(root / name)
    return root


@pytest.mark.parametrize("name", ["vit", "deit", "convnext", "resnet", "bgr", "grey"])
@pytest.mark.parametrize("size", [(48, 90), (131, 70)])
def test_the_module_does_what_the_processor_does(library, folders, name, size):
    model = load_model(f"hf:{folders / name}").module
    assert isinstance(model, Prepared)
    processor = library.AutoImageProcessor.from_pretrained(folders / name)
    channels = 1 if name == "grey" else 3
    coarse = np.random.default_rng(1).integers(0, 256, (9, 9, channels), np.uint8)
    layers = [Image.fromarray(coarse[:, :, c]).resize(size, 3) for c in range(channels)]
    pixels = np.stack([np.asarray(layer) for layer in layers])
    picture = layers[0] if channels == 1 else Image.merge("RGB", layers)
    expected = torch.from_numpy(np.asarray(processor(picture)["pixel_values"]))
    images = torch.from_numpy(pixels)[None].float() / 255
    images.requires_grad_()
    prepared = model.prepare(images)
    assert float(((prepared.detach() - expected) * model.std).abs().max()) <= TOLERANCE
    model(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_what_the_configuration_says(folders):
    vit, convnext = (load_model(f"hf:{folders / name}") for name in ("vit", "convnext"))
    assert (vit.name, vit.classes) == ("vit", ("ant", "bee", "cat"))
    assert str(vit.input) == "resized to 32x32 (bilinear)"
    assert str(convnext.input) == "shorter side to 73 (bicubic), centre crop 64x64"
    assert load_model(f"hf:{folders / 'grey'}").classes is None
    assert vit.sha256 == load_model(f"hf:{folders / 'vit'}").sha256 != convnext.sha256


def test_images_of_the_networks_size_are_only_normalised(folders):
    module = load_model(f"hf:{folders / 'convnext'}").module
    assert isinstance(module, Prepared)
    images = torch.rand(2, 3, 64, 64)
    assert torch.allclose(module.prepare(images), (images - 0.5) / 0.5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_16_bits(library, folders, tmp_path, dtype):
    """transformers keeps the type of the file, which takes no float32 images."""
    network = library.ViTForImageClassification.from_pretrained(folders / "vit")
    network.to(dtype).save_pretrained(tmp_path)
    library.ViTImageProcessor.from_pretrained(folders / "vit").save_pretrained(tmp_path)
    model, images = load_model(f"hf:{tmp_path}"), torch.rand(2, 3, 32, 32)
    expected = network.float().eval()((images - 0.5) / 0.5).logits
    assert torch.allclose(model(images), expected, atol=1e-5)


def test_nothing_is_said(folders, capfd):
    load_model(f"hf:{folders / 'vit'}")
    assert capfd.readouterr() == ("", "")


def test_folders_that_are_no_classifiers(library, folders, tmp_path):
    library.BertConfig().save_pretrained(tmp_path / "bert")
    (tmp_path / "empty").mkdir()
    vit = folders / "vit"
    for name in ("bare", "pickled", "broken"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text((vit / "config.json").read_text())
    settings = (vit / "preprocessor_config.json").read_text()
    (tmp_path / "pickled" / "preprocessor_config.json").write_text(settings)
    network = library.AutoModelForImageClassification.from_pretrained(vit)
    torch.save(network.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    odd = json.loads(settings) | {"size": {"longest_edge": 32}}
    (tmp_path / "broken" / "preprocessor_config.json").write_text(json.dumps(odd))
    (tmp_path / "broken" / "model.safetensors").write_bytes(
        (vit / "model.safetensors").read_bytes()
    )
    expected = {
        f"{tmp_path}/nowhere": "no such folder",
        f"{vit}/config.json": "is a file",
        f"{tmp_path}/empty": "cannot be opened",
        f"{tmp_path}/bert": "is no image classifier",
        f"{tmp_path}/bare": "cannot be opened",
        f"{tmp_path}/pickled": "no model.safetensors, .* add trust_pickle=True",
        f"{tmp_path}/broken": "its processor",
        f"{folders}/perceiver": "does more than resize, crop and normalise",
    }
    for rest, says in expected.items():
        with pytest.raises(InputError, match=says) as error:
            load_model(f"hf:{rest}")
        assert "\n" not in str(error.value)
    assert load_model(f"hf:{tmp_path}/pickled", trust_pickle=True).classes
    with pytest.raises(InputError, match=r"write hf:.*vit"):
        load_model(str(vit))


def test_a_name_that_the_hub_does_not_give(library, monkeypatch):
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="hf:someone/some-model@v1: cannot be opened") as error:
        load_model("hf:someone/some-model@v1")
    assert "\n" not in str(error.value)


def test_a_hub_that_cannot_be_reached_is_not_waited_for(library, monkeypatch, tmp_path):
    import huggingface_hub.constants as constants

    def refuse(*_):
        raise OSError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.create_connection", refuse)
    # the library would try again for half a minute
    monkeypatch.setattr("scotoma.models.sources.transformers.require", None)
    for name in ("someone/some-model", "no name of the hub"):
        with pytest.raises(InputError, match=f"hf:{name}: the hub cannot be reached"):
            load_model(f"hf:{name}")
    assert constants.HF_HUB_OFFLINE is False


def test_without_the_library(folders, without):
    without("transformers")
    with pytest.raises(InputError, match=r"needs transformers; pip install transformers"):
        load_model(f"hf:{folders / 'vit'}")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("name", "side"),
    [("vit", 48), *(pytest.param(*each, marks=pytest.mark.slow) for each in SIZED)],
)
def test_from_a_folder_to_a_verdict(folders, name, side):
    spec = f"hf:{folders / name}"
    images = torch.rand(60, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = load_model(spec).module(images).argmax(1)  # random weights: mostly one class
    options: dict = {"probes": ["robustness"], "attack": "fgsm", "limit": 10, "force": True}
    report = scotoma.audit(spec, (images, labels), "linf:4/255", **options)
    assert report["robustness"].numbers["clean_accuracy"] == 1
    assert f"scotoma.audit('{spec}'" in report.provenance["command"]
    block = inspect(load_model(spec), from_memory((images, labels)))
    assert block["pixels"].startswith("[0, 1], normalised inside (mean 0.5, 0.5, 0.5; std 0.5")
    assert "its configuration asks for" in block["input"]
