"""Pictures of compared images: the original, and what each audit made of it."""

from __future__ import annotations

import math

import numpy as np
import torch

from scotoma.data.dataset import Dataset
from scotoma.results.comparison.audits import Audits
from scotoma.results.stored import Stored
from scotoma.utils.errors import InputError

GREY = 0.5


class Album:
    """Pictures of the compared images; without data, of perturbations around grey.

    Raises:
        InputError: the data are not those that were audited.
    """

    def __init__(self, audits: Audits, data: Dataset | None):
        self.audits, self.data = audits, data
        audited = audits.each[0].identity["data_sha256"]
        if data is not None and data.sha256 != audited:
            raise InputError(f"data={data.name}: are not the data of these audits, {audits.data}")
        self._stored = {audit.name: Stored(audit.report.folder) for audit in audits}

    def row(self, position: int) -> np.ndarray | None:
        """Return the original if there are data, then a picture for each audit: (k, c, h, w).

        An audit shows its smallest adversarial image, or the perturbation without data; the
        original, or plain grey, if it has none. None if an image is not stored or cannot be shown.
        """
        index, norm = int(self.audits.indices[position]), self.audits.threat.norm
        original = self.data.test.images(torch.tensor([index]))[0].numpy() if self.data else None
        shape = self._shape(original)
        if shape is None:
            return None
        unchanged = np.full(shape, GREY, np.float32) if original is None else original
        pictures = [] if original is None else [original]
        for audit in self.audits:
            attack = audit.rows[f"{norm}_attack"][position]
            picture = unchanged
            if attack is not None:
                picture = self._picture(audit.name, attack, index, original)
            if picture is None or picture.size != math.prod(shape):
                return None
            pictures.append(picture.reshape(shape))
        return np.stack(pictures)

    def _picture(
        self, name: str, attack: str, index: int, original: np.ndarray | None
    ) -> np.ndarray | None:
        if original is not None:
            return self._stored[name].adversarial(attack, index, original)
        change = self._stored[name].perturbation(attack, index)
        return None if change is None else np.clip(GREY + change / 2, 0, 1)

    def _shape(self, original: np.ndarray | None) -> tuple[int, ...] | None:
        """Return (c, h, w): of the original, or of a model's card."""
        if original is not None:
            return original.shape
        cards = (audit.report.provenance.get("model", {}).get("shape") for audit in self.audits)
        return next((tuple(shape) for shape in cards if shape), None)
