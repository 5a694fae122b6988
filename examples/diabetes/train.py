"""Trains the ridge regression that score.py serves, on scikit-learn's bundled diabetes data."""

import sys

import joblib
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge


def train(path) -> None:
    """Write a model fitted to the whole data set to `path`."""
    patients, progression = load_diabetes(return_X_y=True)
    joblib.dump(Ridge(alpha=0.1).fit(patients, progression), path)


if __name__ == "__main__":
    train(sys.argv[1] if len(sys.argv) > 1 else "diabetes-ridge.pkl")
