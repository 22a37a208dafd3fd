"""Claim files: what they ask for, and what is wrong with them in one line."""

from pathlib import Path

import pytest

from scotoma.claim import Stated
from scotoma.claims.file import as_toml, read_claim
from scotoma.claims.request import Request
from scotoma.probes import PROBES
from scotoma.threat import Threat
from scotoma.utils.errors import InputError

FULL = """
[model]
source = "net.py:make"
weights = "w.safetensors"
trust_pickle = true
[data]
source = "npz:images.npz"
root = "sets"
[claim]
threat = "linf:8/255"
clean_accuracy = 0.9
robust_accuracy = 0.713
margin = 0.03
source = "Table 1"
survives = ["gamma"]
also = {"l2:1.5" = 0.5}
[audit]
probes = ["robustness", "masking", "distance", "norms", "inequality", "generated"]
attack = "pgd"
layer = "fc"
extractor = "e.safetensors"
sources = ["s.safetensors"]
bounds = ["l0:12"]
reference = "r.safetensors"
generator = "g.safetensors"
limit = 50
seed = 3
budget = "20m"
out = "runs/x"
[thresholds.robustness]
broken = 0.4
[gate]
rules = ["robust_accuracy >= 45%", "masking != broken"]
baseline = "old"
"""
SMALL = '[model]\nsource = "m"\n[data]\nsource = "digits"\n[claim]\nthreat = "linf:0.1"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "claim.toml"
    path.write_text(text)
    return path


def test_every_key_arrives(tmp_path):
    (tmp_path / "net.py").touch()
    (tmp_path / "images.npz").touch()
    parsed = read_claim(written(tmp_path, FULL))
    assert parsed.request == Request(
        model=f"{tmp_path}/net.py:make",
        data=f"npz:{tmp_path}/images.npz",
        threat=Threat("linf", 8 / 255),
        weights=Path("w.safetensors"),
        trust_pickle=True,
        data_root=Path("sets"),
        probes=("robustness", "masking", "distance", "norms", "inequality", "generated"),
        attack="pgd",
        layer="fc",
        extractor="e.safetensors",
        sources=("s.safetensors",),
        bounds=("l0:12",),
        reference="r.safetensors",
        generator="g.safetensors",
        limit=50,
        seed=3,
        budget="20m",
        out=Path("runs/x"),
        stated=Stated(0.9, 0.713, ((Threat("l2", 1.5), 0.5),), 0.03, "Table 1"),
        thresholds=(("robustness", "broken", 0.4),),
        survives=("gamma",),
    )
    assert [str(rule) for rule in parsed.rules] == ["robust_accuracy >= 45%", "masking != broken"]
    assert parsed.baseline == Path("old")


def test_what_is_written_asks_for_the_same(tmp_path):
    first = read_claim(written(tmp_path, FULL))
    second = read_claim(written(tmp_path, as_toml(first.request, first.rules)))
    assert (second.request, second.rules) == (first.request, first.rules)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SMALL + "treat = 1", r"unknown key 'treat' in \[claim\]; did you mean 'threat'"),
        (SMALL + "[gates]", r"unknown section \[gates\]; did you mean 'gate'"),
        (SMALL.replace("linf", "lnf"), "did you mean 'linf'"),
        (SMALL + "robust_accuracy = 91", "robust_accuracy is 91; want a share"),
        (SMALL + "robust_accuracy = true", "robust_accuracy is True; want a number"),
        (SMALL + '[audit]\nlimit = "ten"', "audit.limit is 'ten'; want a whole number"),
        (SMALL + "[audit]\nprobes = [1]", "want a list of texts"),
        (SMALL + '[gate]\nrules = ["blindspot != broken"]', "did you mean 'blindspots'"),
        (SMALL + '[gate]\nrules = ["robust_accuracy"]', "write NAME >= NUMBER"),
        (SMALL + '[gate]\nrules = ["masking >= 3"]', "a verdict is compared by == or !="),
        (SMALL + '[gate]\nrules = ["masking == brokn"]', "did you mean 'broken'"),
        (SMALL + '[gate]\nrules = ["robust_accuracy >= much"]', "'much' is no number"),
        (SMALL + 'also = {"l2:1" = "x"}', "want a number"),
        (SMALL + "[thresholds.robustness]\nbrokn = 0.4", "did you mean 'broken'"),
        (SMALL + "[thresholds.masking]\ntolerated = 7", r"masking\.tolerated is 7; want a share"),
        (SMALL + "[thresholds.divergence]\nnear = 0.7", "did you mean 'far'"),
        (SMALL + "[thresholds]\nrobustness = 0.4", r"write \[thresholds\.PROBE\]"),
        (
            SMALL + '[audit]\nprobes = ["robustness"]\n[thresholds.masking]\ntolerated = 0.1',
            "thresholds.masking sets tolerated, but masking does not run; probes are robustness",
        ),
        (
            SMALL + '[audit]\nprobes = ["norms"]\nlayer = "fc"',
            "audit.layer fc is an option of distance and divergence, which do not run; probes are",
        ),
        (
            SMALL + '[audit]\nprobes = ["norms"]\nsources = ["a", "b"]',
            "audit.sources a,b is an option of transfer and masking, which do not run",
        ),
        (
            SMALL + "[audit]\nprobes = []",
            "audit.probes is empty; name probes, or leave the key out",
        ),
        (SMALL + "[thresholds.robust]\nholds = 0.4", "did you mean 'robustness'"),
        ("model = 1", r"write \[model\] above its keys"),
        ("[model]", r"\[model\] wants a key source"),
        ("not toml", "not a TOML file"),
    ],
)
def test_one_line_says_what_is_wrong(tmp_path, text, says):
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=says) as caught:
        read_claim(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_claim(tmp_path / "claim.toml")


def test_flags_add_but_do_not_contradict(tmp_path):
    claim = read_claim(written(tmp_path, SMALL))
    added = claim.with_flags("claim.toml", {"limit": 7, "threat": Threat("linf", 0.1)})
    assert added.limit == 7
    with pytest.raises(InputError, match=r"--threat linf:0\.2 contradicts claim\.toml, where"):
        claim.with_flags("claim.toml", {"threat": Threat("linf", 0.2)})


def test_the_page_lists_every_threshold_with_its_usual_value():
    page = (Path(__file__).parents[2] / "docs/claims.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    for probe in PROBES:
        instance, named = PROBES[probe](), PROBES[probe].thresholds
        listed = [row for row in rows if row[0].startswith(f"| `{probe}.")]
        printed = {}
        for names, values, *_ in listed:
            words = [word.strip("`,| ").split(".")[-1] for word in names.split(", ")]
            printed |= dict(zip(words, values.split(", "), strict=True))
        usual = {name: getattr(instance, name) for name in named}
        assert printed == {
            name: f"{value:g}" if name == "far" else f"{value:.0%}" for name, value in usual.items()
        }, probe


def test_how_images_are_read(tmp_path):
    (tmp_path / "images").mkdir()
    text = (
        '[model]\nsource = "m.safetensors"\n[data]\nsource = "folder:images"\nsize = 224\n'
        'train = "folder:images"\non_error = "skip"\n[claim]\nthreat = "linf:0.1"\n'
    )
    (tmp_path / "claim.toml").write_text(text)
    claim = read_claim(tmp_path / "claim.toml")
    near = f"folder:{tmp_path / 'images'}"
    assert claim.request.images == {
        "train": near,
        "size": "224",
        "resize": None,
        "crop": None,
        "interpolation": None,
        "on_error": "skip",
    }
    (tmp_path / "again.toml").write_text(as_toml(claim.request))
    assert read_claim(tmp_path / "again.toml").request == claim.request
    with pytest.raises(InputError, match=r"--size 64 contradicts .* where data.size is 224"):
        claim.with_flags("claim.toml", {"size": "64"})
    (tmp_path / "claim.toml").write_text(text.replace("224", "[1]"))
    with pytest.raises(InputError, match=r"data.size is \[1\]; want a number of pixels"):
        read_claim(tmp_path / "claim.toml")
