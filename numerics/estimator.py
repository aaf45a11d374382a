"""The derived network as a scikit-learn classifier, for pipelines, grid searches and cross-validation."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .data import Dataset
from .training import train


class NetworkClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier with hidden layers ``hidden`` (such as "16" or "256-128"), trained by :func:`.training.train`.

    Inputs are standardised by the training samples; no test part is held out here. After ``fit``: ``result_`` (the
    :class:`.training.TrainingResult`), ``classes_`` and ``n_features_in_``.
    """

    def __init__(
        self,
        hidden: str = "16",
        *,
        activation: str = "relu",
        loss: str = "softmax_cross_entropy",
        optimiser: str = "adam",
        learning_rate: Any = None,
        epochs: int = 200,
        batch: int = 16,
        validation: float = 0.0,
        patience: int | None = None,
        initialiser: str = "gain_normal",
        seed: int = 0,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.loss = loss
        self.optimiser = optimiser
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch = batch
        self.validation = validation
        self.patience = patience
        self.initialiser = initialiser
        self.seed = seed

    def fit(self, X: Any, y: Any) -> NetworkClassifier:
        """Train on samples ``X`` (n, features) with labels ``y`` (n,) and return the classifier itself."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        features = tuple(f"x{k + 1}" for k in range(X.shape[1]))
        data = Dataset("the training set", X, labels.astype(np.int64), tuple(map(str, self.classes_)), features)
        spec = "-".join(map(str, (X.shape[1], *([self.hidden] if self.hidden else []), len(self.classes_))))
        options = {k: v for k, v in self.get_params().items() if k != "hidden"}
        self.result_ = train(spec, data, test=0.0, **options)
        self.n_iter_ = len(self.result_.history) - 1
        return self

    def predict_proba(self, X: Any) -> Any:
        """Class probabilities (n, classes); the plain output where the loss has no softmax."""
        check_is_fitted(self, "result_")
        return self.result_.predict_proba(validate_data(self, X, dtype=np.float64, reset=False))

    def predict(self, X: Any) -> Any:
        """The label of the largest output for every sample."""
        check_is_fitted(self, "result_")
        return self.classes_[self.result_.network.decide(self.predict_proba(X))]
