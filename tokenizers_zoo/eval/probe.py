"""What tokens say of an item's class, by classifiers that learn from some items and are tested on the others."""

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..manifest import Row
from .base import Item, TokenMetric, interval, need

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # scikit-learn's C, the strongest penalty first: of equally good ones it is taken
HELD_OUT = 5  # one training item in so many of a class chooses the penalty
WIDEST = 512  # features; of more, as many principal components


class Pooled(TokenMetric):
    """A measure of one vector an item. word: of its values, with "flat_" before it where positions are flattened.

    pool: "mean" over places, which are one for 1D tokens of images, or "flatten" where their number is fixed.
    """

    word: str

    def __init__(self, pool: str = "mean"):
        if pool not in ("mean", "flatten"):
            raise InputError(f"pool must be mean or flatten, got {pool!r}")
        self.pool, self.key = pool, self.word if pool == "mean" else f"flat_{self.word}"

    def pooled(self, latents: Tensor) -> np.ndarray[Any, Any]:
        """(N, D) -> (D,), or (N * D,)."""
        return (latents.mean(0) if self.pool == "mean" else latents.flatten()).numpy()


class Probe(Pooled):
    """Accuracy of a classifier of the manifest's column `label`; features are standardised by the training items.

    An item is a test item if a hash of `seed` and the name of its file and folder falls under `test`, so that it is one for every
    tokenizer. Only test items count in the accuracy; one of a class without training items is a miss.
    """

    def __init__(self, pool: str = "mean", test: float = 0.3, seed: int = 0):
        super().__init__(pool)
        self.test, self.seed = test, seed

    def item(self, latents: Tensor, row: Row) -> Item:
        """The pooled latents, the class, and whether it is a test item."""
        if not row.label:
            raise InputError(f"{row.path} has no class; fill the manifest's label column")
        name = f"{self.seed} {row.path.parent.name}/{row.path.name}"
        share = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32
        return {"latents": self.pooled(latents), "label": row.label, "test": share < self.test}

    @abstractmethod
    def guesses(self, features: Any, labels: Sequence[str], asked: Any) -> Sequence[str]:
        """Labels of what is asked, (M, D), learned from features (N, D) with labels."""

    def together(self, items: Sequence[Item]) -> list[Item]:
        """Of each test item 1 where its class was guessed, else 0. Raises InputError for training items of one class, or none."""
        known = [item for item in items if not item["test"]]
        tested = [item for item in items if item["test"]]
        labels = [item["label"] for item in known]
        if len(set(labels)) < 2 or not tested:
            raise InputError(
                f"a probe needs training items of 2 classes and test items, got {len(known)} of {len(set(labels))} and "
                f"{len(tested)}"
            )
        learned, asked = (np.stack([item["latents"] for item in some]) for some in (known, tested))
        steps = [need("sklearn.preprocessing").StandardScaler()]
        if learned.shape[1] > WIDEST:
            steps.append(need("sklearn.decomposition").PCA(min(WIDEST, len(learned)), random_state=0))
        features = need("sklearn.pipeline").make_pipeline(*steps)
        with np.errstate(invalid="ignore"):  # of tokens that are always the same, components have no share of the variance
            learned = features.fit_transform(learned)
        guesses = iter(self.guesses(learned, labels, features.transform(asked)))
        return [{self.key: float(next(guesses) == item["label"])} if item["test"] else {} for item in items]

    def summary(self, items: Sequence[Item]) -> dict[str, Any]:
        """Accuracy, 0 to 1, of the test items; with numbers of classes and of training items."""
        hits, known = ([item for item in items if item["test"] is kind] for kind in (True, False))
        counts = {"classes": len({item["label"] for item in known}), "training": len(known), "items": len(hits)}
        return {self.key: {**interval([item[self.key] for item in hits]), **counts}}


class LinearProbe(Probe):
    """Logistic regression. The penalty is the best for every fifth training item of each class when the others have taught; then
    all training items teach.
    """

    word = "probe_accuracy"

    def guesses(self, features: Any, labels: Sequence[str], asked: Any) -> Sequence[str]:
        """By scikit-learn. Raises InputError where no class has two training items."""
        selection = need("sklearn.model_selection")
        times: Counter[str] = Counter()
        parts = []  # 0: chooses, -1: teaches
        for label in labels:
            parts.append(0 if times[label] % HELD_OUT == 1 else -1)
            times[label] += 1
        if 0 not in parts:
            raise InputError(f"a linear probe needs a class with two training items, got {len(labels)} items of as many classes")
        regression = need("sklearn.linear_model").LogisticRegression(max_iter=1000)
        parts = selection.PredefinedSplit(parts)
        search = selection.GridSearchCV(regression, {"C": PENALTIES}, cv=parts, error_score="raise")
        return search.fit(features, labels).predict(asked)


class NearestClass(Probe):
    """The class whose training items have the nearest mean."""

    word = "nearest_class_accuracy"

    def guesses(self, features: Any, labels: Sequence[str], asked: Any) -> Sequence[str]:
        """By squared distances."""
        classes, which = np.unique(labels, return_inverse=True)
        means = np.stack([features[which == i].mean(0) for i in range(len(classes))])
        return list(classes[((means**2).sum(1) - 2 * asked @ means.T).argmin(1)])
