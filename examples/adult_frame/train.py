"""Trains the classifier that score.py serves, on a small table made up here in the form of the adult census."""

import sys

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

WORKCLASSES = ["Private", "Self-emp", "Government"]
ROWS = 500


def train(path) -> None:
    """Write a pipeline that takes frames of age, workclass and hours_per_week to `path`."""
    people = _people(np.random.default_rng(7))
    is_above_50k = (people["age"] / 2 + people["hours_per_week"] > 62).astype(int)
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "hours_per_week"]),
        (OneHotEncoder(handle_unknown="ignore"), ["workclass"]),
    )
    joblib.dump(make_pipeline(columns, LogisticRegression()).fit(people, is_above_50k), path)


def _people(random) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": random.integers(17, 90, ROWS),
            "workclass": random.choice(WORKCLASSES, ROWS),
            "hours_per_week": random.uniform(10, 80, ROWS),
        }
    )


if __name__ == "__main__":
    train(sys.argv[1] if len(sys.argv) > 1 else "adult-income.pkl")
