"""Captions name the classes behind their numbers, and an audit does so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import scotoma
from scotoma.data.memory import from_memory
from scotoma.results.class_names import CLASS, with_class_names
from scotoma.results.finding import Finding, Gallery


@pytest.mark.parametrize(
    ("caption", "numbers"),
    [
        ("7", ["7"]),
        ("7, test image 12", ["7"]),
        ("classified as 3, L-inf 0.031", ["3"]),
        ("valid, classified as 12", ["12"]),
        ("3 pixels", []),
        ("scale-shift with alpha 0.9", []),
        ("n = 2, r = 3, 4 px (1.0%), classified as 1", ["1"]),
    ],
)
def test_a_number_of_a_class_is_known_by_where_it_stands(caption, numbers):
    assert CLASS.findall(caption) == numbers


def test_all_numbers_of_a_judged_image_are_classes():
    shown = Gallery(
        "rejected", "Images.", "rejected", ["rejected"], [["for 0; judged 1, 1, 0; far from it"]]
    )
    finding = Finding("p", "Why?", "holds", "Always.", "So.", figures=(shown,))
    (named,) = with_class_names(finding, ["cat", "dog"]).figures
    assert isinstance(named, Gallery)
    assert named.captions == [["for 0 (cat); judged 1 (dog), 1 (dog), 0 (cat); far from it"]]


def test_an_audit_names_classes_that_have_names(linear):
    model = scotoma.load_model(linear)
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = model.module(images).argmax(1)
    names = tuple(f"kind {'abcdefghij'[number]}" for number in range(10))
    data = replace(from_memory((images, labels)), classes=names)
    report = scotoma.audit(model, data, "linf:0.3", probes=["robustness"], attack="fgsm")
    shown = next(each for each in report["robustness"].figures if isinstance(each, Gallery))
    label, answer, size = shown.captions[0]
    assert label[:-1] == f"{label[0]} (kind {'abcdefghij'[int(label[0])]}"
    assert answer.startswith("classified as ")
    assert answer.endswith(f"({names[int(answer.split()[2])]})")
    assert size.startswith("L-inf")
