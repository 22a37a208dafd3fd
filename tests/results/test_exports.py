"""`scotoma export` writes what the run knows in the formats of others, and nothing else."""

from __future__ import annotations

import json
import math
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml
from made_audits import made_audit

import scotoma as library
from centroids import centroids
from scotoma.results.exports import model_index
from scotoma.results.finding import Finding

INF = math.inf
SIZES = [INF] * 70 + [0.05] * 20 + [0.15] * 5 + [0] * 5
"""Robust accuracy 75% at 0.1, accuracy 95%."""


@pytest.fixture
def run(tmp_path) -> Path:
    norms = Finding("norms", "?", "weak", "a rule", "So.", {"bounds": {"linf": 0.1, "l2": 1.0}})
    robustness = Finding("robustness", "?", "weak", "weak if <half> of it is robust", "Half.")
    return made_audit(tmp_path / "mine", SIZES, findings=[robustness, norms], notes=["Read me."])


MODEL_INDEX = """model-index:
- name: "mine"
  results:
  - task:
      type: "image-classification"
      name: "Image Classification"
    dataset:
      type: "digits"
      name: "digits"
      split: "test"
    metrics:
    - type: "accuracy"
      value: 0.95
      name: "Accuracy"
      args:
        images: 100
        low: 0.88825
        high: 0.978456
        confidence: 0.95
        scotoma: "0.1.0"
        data_sha256: "{data}"
    - type: "accuracy"
      value: 0.75
      name: "Robust accuracy (upper bound, linf:0.1)"
      args:
        threat: "linf:0.1"
        attack: "strong"
        seed: 0
        images: 100
        low: 0.656955
        high: 0.824548
        confidence: 0.95
        scotoma: "0.1.0"
        data_sha256: "{data}"
    - type: "accuracy"
      value: 0.75
      name: "Robust accuracy (upper bound, l2:1)"
      args:
        threat: "l2:1"
        seed: 0
        images: 100
        low: 0.656955
        high: 0.824548
        confidence: 0.95
        scotoma: "0.1.0"
        data_sha256: "{data}"
""".format(data="da" * 32)


def test_model_index_is_the_documented_yaml(run, scotoma):
    ended = scotoma("export", run, "--as", "model-index")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == MODEL_INDEX
    metrics = yaml.safe_load(ended.out)["model-index"][0]["results"][0]["metrics"]
    assert [each["value"] for each in metrics] == [0.95, 0.75, 0.75]


def test_any_value_is_read_back_from_yaml():
    value = {"word": "no", "colon": 'a: "b" # é', "none": None, "list": [[1, 2], []], "x": [1e-5]}
    assert yaml.safe_load("\n".join(model_index.yaml(value))) == value


def test_robustbench_has_their_fields_and_null_where_nothing_is_known(run, scotoma, tmp_path):
    out = tmp_path / "new" / "entry.json"
    assert scotoma("export", run, "--as", "robustbench", "--out", out).code == 0
    entry = json.loads(out.read_text())
    fields = (
        "link name authors additional_data number_forward_passes dataset venue architecture eps "
        "clean_acc reported autoattack_acc external footnote"
    )
    assert list(entry) == fields.split()
    facts = {name: value for name, value in entry.items() if value is not None}
    assert "65.70–82.45%" in facts.pop("footnote")
    assert facts == {"dataset": "digits", "eps": "0.1", "clean_acc": "95.00", "external": "75.00"}


def test_the_number_that_a_claim_states_is_the_reported_one(tmp_path, scotoma):
    row = {"claim": "robust accuracy within linf:0.1", "claimed": 0.9, "verdict": "broken"}
    stated = Finding("robustness", "?", "broken", "the rule", "No.", tables={"stated": [row]})
    masking = Finding("masking", "?", "holds", "no sign", "No.")
    run = made_audit(tmp_path / "stated", SIZES, findings=[stated, masking])
    entry = json.loads(scotoma("export", run, "--as", "robustbench").out)
    assert entry["reported"] == "90.00"
    assert scotoma("export", run, "--as", "summary").code == 0
    page = Page((run / "summary.html").read_text())
    decisions = "robust accuracy within linf:0.1 of 90.0% broken the rule masking holds no sign"
    assert decisions in page.text


def test_csv_has_a_row_for_each_image(run, scotoma, tmp_path):
    out = tmp_path / "ledger.csv"
    assert scotoma("export", run, "--as", "csv", "--out", out).code == 0
    table = pl.read_csv(out)
    assert table["index"].to_list() == list(range(100))
    assert table["linf"].to_list() == pytest.approx(SIZES)
    assert table.filter(linf=INF)["linf_attack"].null_count() == 70
    assert set(table["linf_attack"].drop_nulls()) == {"strong"}
    within = table["fooled_within_eps"]
    assert within.to_list() == [0 < size <= 0.1 + 1e-6 for size in SIZES]
    assert within.sum() < table["fooled_at_any_size"].sum()


class Page(HTMLParser):
    """The text of a page, with single spaces."""

    def __init__(self, source: str):
        super().__init__()
        self.words: list[str] = []
        self.feed(source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_data(self, data):
        self.words.append(data)


def test_the_summary_says_what_a_test_report_has_to(run, scotoma):
    ended = scotoma("export", run, "--as", "summary")
    assert (ended.code, ended.out) == (0, f"summary: {run / 'summary.html'}\n")
    source = (run / "summary.html").read_text()
    text = Page(source).text
    for part in (
        f"model mine, SHA-256 {sha256(b'mine').hexdigest()}",
        f"digits, SHA-256 {'da' * 32}",
        "100 of 500 test images, drawn at random with seed 0",
        "Scotoma 0.1.0, seed 0",
        "cpu, 1 thread",
        "2026-11-29T10:00:00+00:00, 3.5 s",
        "Robust accuracy (upper bound) L-inf 0.1 75.0% 65.7% to 82.5% 100",
        "Attack success rate, of images classified correctly L-inf 0.1 21.1% 14.1% to 30.3% 95",
        "Robust accuracy (upper bound) L2 1 75.0% 65.7% to 82.5% 100",
        "robustness weak weak if <half> of it is robust",
        "Robustness to perturbations measured in L1, L0.",
        "Probes that did not run: blindspots, ",
        "400 of the test images were not attacked.",
        "No robustness was certified",
        "Read me.",
    ):
        assert part in text, part
    assert text.endswith("Laboratory Authorised by Date and signature")
    assert "@page { size: A4;" in source
    named = run.parent / "named.html"
    scotoma("export", run, "--as", "summary", "--laboratory", "A & B", "--out", named)
    assert "Laboratory: A & B Authorised by" in Page(named.read_text()).text


def test_the_tensor_has_the_images_that_fool(digits, tmp_path, scotoma):
    run, tensor = tmp_path / "run", tmp_path / "images.pt"
    model = centroids(digits)
    report = library.audit(
        model, "digits", "linf:0.1", out=run, probes=["robustness"], attack="fgsm", limit=30
    )
    options = ("--as", "robustbench", "--data", "digits", "--tensor", tensor)
    assert scotoma("export", run, *options).code == 0
    images = torch.load(tensor)
    originals = digits.test.images(torch.arange(len(digits.test)))
    change = (images - originals).flatten(1).abs().amax(1)
    assert change.max() <= 0.1 + 1e-6
    fooled = report.ledger.rows().filter("success")["index"].to_list()
    assert sorted(change.nonzero().flatten().tolist()) == sorted(fooled)
    assert (model(images[fooled]).argmax(1) != digits.test.labels[fooled]).all()
    (run / "units").rename(run / "lost")
    ended = scotoma("export", run, *options)
    assert (ended.code, "is not stored; run `scotoma verify`" in ended.err) == (2, True)


def test_bad_input_is_a_line(run, scotoma, tmp_path):
    for arguments, says in (
        ([run], "Missing option '--as'"),
        ([run, "--as", "robustbensh"], "did you mean 'robustbench'?"),
        ([tmp_path / "nothing", "--as", "csv"], "findings.json: no such file"),
        ([run, "--as", "csv", "--laboratory", "L"], "--laboratory is for --as summary"),
        ([run, "--as", "csv", "--data", "digits"], "are for --as robustbench"),
        ([run, "--as", "robustbench", "--data", "digits"], "give both --tensor FILE.pt and --data"),
        (
            [run, "--as", "robustbench", "--data", "digits", "--tensor", tmp_path / "t.pt"],
            "--data digits: are not the data of this audit",
        ),
    ):
        ended = scotoma("export", *arguments)
        assert (ended.code, says in ended.err, ended.err.count("\n"), ended.out) == (2, True, 1, "")
    assert not (tmp_path / "t.pt").exists()
