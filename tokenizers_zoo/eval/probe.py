"""What tokens say of an item's class, by a linear classifier."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..manifest import Row
from .base import Item, TokenMetric, interval, need


class LinearProbe(TokenMetric):
    """Accuracy of a logistic regression from codebook entries to the manifest's column `label`.

    A probe is trained on some items and tested on the others: an item is a test item if a hash of `seed` and the name of its
    file and folder falls under `test`, so that it is one for every tokenizer. Only test items count in the accuracy.

    pool: "mean" over positions, or "flatten" where their number is fixed and each has its own meaning, as in 1D tokens of
    images. Features are standardised by the training items; scikit-learn's penalty (C = 1).
    """

    def __init__(self, pool: str = "mean", test: float = 0.3, seed: int = 0):
        if pool not in ("mean", "flatten"):
            raise InputError(f"pool must be mean or flatten, got {pool!r}")
        self.pool, self.test, self.seed = pool, test, seed

    def item(self, latents: Tensor, row: Row) -> Item:
        """The pooled latents, (D,) or (N * D,), the class, and whether it is a test item."""
        if not row.label:
            raise InputError(f"{row.path} has no class; fill the manifest's label column")
        name = f"{self.seed} {row.path.parent.name}/{row.path.name}"
        share = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32
        pooled = latents.mean(0) if self.pool == "mean" else latents.flatten()
        return {"latents": pooled.numpy(), "label": row.label, "test": share < self.test}

    def summary(self, items: Sequence[Item]) -> dict[str, Any]:
        """Accuracy, 0 to 1, of the test items. Raises InputError unless there are both kinds, and training items of 2 classes."""
        from_train = [item for item in items if not item["test"]]
        tested = [item for item in items if item["test"]]
        classes = {item["label"] for item in from_train}
        if len(classes) < 2 or not tested:
            raise InputError(
                f"a probe needs training items of 2 classes and test items, "
                f"got {len(from_train)} of {len(classes)} and {len(tested)}"
            )
        scaler = need("sklearn.preprocessing").StandardScaler()
        regression = need("sklearn.linear_model").LogisticRegression(max_iter=1000)
        probe = need("sklearn.pipeline").make_pipeline(scaler, regression)
        probe.fit(np.stack([item["latents"] for item in from_train]), [item["label"] for item in from_train])
        guesses = probe.predict(np.stack([item["latents"] for item in tested]))
        hits = [float(guess == item["label"]) for guess, item in zip(guesses, tested, strict=True)]
        return {"probe_accuracy": {**interval(hits), "classes": len(classes), "training": len(from_train), "test": len(tested)}}
