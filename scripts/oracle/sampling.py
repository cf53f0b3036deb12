#!/usr/bin/env python3
"""Writes tests/golden/sampling.json: distributions at a temperature and top-p, by other people's software.

    scripts/oracle/setup && .venv/bin/python scripts/oracle/sampling.py

The temperature is scipy's softmax in float64; the nucleus is mlx-lm's `apply_top_p` on its logarithm, renormalised.
mlx-lm keeps every token that ties with the last one kept, so the logits are drawn without ties. It cuts before it
scales; here it is given scaled logits, which is the order of transformers.
"""
import json
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import apply_top_p
from scipy.special import log_softmax, softmax

GOLDEN = Path(__file__).resolve().parents[2] / "tests/golden/sampling.json"
VOCABULARY = 24
SPREADS = {"flat": 0.5, "usual": 2.0, "peaked": 8.0}
TEMPERATURES = [0.25, 0.7, 1.0, 1.8]
TOP_PS = [0.05, 0.5, 0.9, 0.99, 1.0]


def distribution(logits, temperature, top_p):
    scaled = logits.astype(np.float64) / temperature
    if top_p == 1.0:
        return softmax(scaled)
    kept = np.isfinite(np.array(apply_top_p(mx.array(log_softmax(scaled).astype(np.float32)), top_p)))
    return softmax(np.where(kept, scaled, -np.inf))


def main():
    random = np.random.default_rng(20261)
    cases = []
    for name, spread in SPREADS.items():
        logits = random.normal(scale=spread, size=VOCABULARY).astype(np.float32)
        for temperature in TEMPERATURES:
            for top_p in TOP_PS:
                probabilities = distribution(logits, temperature, top_p)
                cases.append({"name": name, "temperature": temperature, "top_p": top_p, "logits": logits.tolist(),
                              "probabilities": probabilities.tolist()})
    versions = {package: version(package) for package in ["mlx-lm", "mlx", "numpy", "scipy"]}
    lines = ",\n".join(json.dumps(case) for case in cases)
    GOLDEN.write_text(f'{{"versions": {json.dumps(versions)}, "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
