"""The model every server serves, what it is asked, and what it has to answer."""

from __future__ import annotations

import json
import random
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import Ridge

MIB = 2**20
FEATURES = 10
SMALL = [[float(n) for n in range(1, FEATURES + 1)], [float(n) for n in range(FEATURES, 0, -1)]]


def write(folder: Path) -> dict[str, list[float]]:
    """The model and all bodies as files in a folder; the figures each answer must consist of, by body."""
    chance = random.Random(1)
    rows = [[round(chance.gauss(0, 1), 6) for _ in range(FEATURES)] for _ in range(1000)]
    model = Ridge().fit(rows, [sum(row) + chance.gauss(0, 1) for row in rows])
    joblib.dump(model, folder / "model.joblib")
    raw = chance.randbytes(MIB)
    (folder / "raw.bin").write_bytes(raw)
    expected: dict[str, list[float]] = {"raw": [len(raw), raw[0], raw[-1]]}
    for body, data in (("small", SMALL), ("rows", rows)):
        # 1 and not 1.0, as in the reference figures; the rows are what they are.
        plain = [[int(value) if value == int(value) else value for value in row] for row in data]
        (folder / f"{body}.json").write_text(json.dumps({"data": plain}))
        (folder / f"{body}.v2.json").write_text(json.dumps(_v2(plain)))
        expected[body] = model.predict(np.array(data)).tolist()
    return expected


def are_right(figures: list[float], expected: list[float]) -> bool:
    """Whether an answer is the expected one, but for the last bits of its floats."""
    return len(figures) == len(expected) and bool(np.allclose(figures, expected, rtol=1e-9, atol=1e-9))


def _v2(data: list[list[float]]) -> dict[str, object]:
    flat = [value for row in data for value in row]
    tensor = {"name": "data", "shape": [len(data), FEATURES], "datatype": "FP64", "data": flat}
    return {"inputs": [tensor]}
