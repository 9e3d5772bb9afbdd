#!/usr/bin/env python3
"""Writes tests/golden/statistics.json: correlations and signed-rank tests by SciPy.

    python3 -m venv /tmp/scipy && /tmp/scipy/bin/pip install scipy
    /tmp/scipy/bin/python tools/golden_statistics.py

Samples are rounded to a few digits, so that the JSON holds them exactly and ties occur where they are wanted.
"""
import json
import pathlib

import numpy
from scipy import stats

rng = numpy.random.default_rng(7)


def correlated(name, x, y):
    pair = lambda result: [float(result.statistic), float(result.pvalue)]
    return {
        "name": name, "x": list(map(float, x)), "y": list(map(float, y)),
        "pearson": pair(stats.pearsonr(x, y)),
        "spearman": pair(stats.spearmanr(x, y)),
        "kendall": pair(stats.kendalltau(x, y)),
    }


def noisy(n, slope, digits):
    x = rng.normal(size=n)
    return x.round(digits), (slope * x + rng.normal(size=n)).round(digits)


correlations = [
    correlated("4 pairs", [1, 2, 3, 4], [2, 1, 4, 3.5]),
    correlated("10 pairs, weak", *noisy(10, 0.2, 6)),
    correlated("24 pairs, strong", *noisy(24, 2.0, 6)),
    correlated("33 pairs, negative", *noisy(33, -0.7, 6)),
    correlated("34 pairs", *noisy(34, 0.5, 6)),
    correlated("50 pairs, very strong", *noisy(50, 20.0, 6)),
    correlated("250 pairs", *noisy(250, 0.3, 6)),
    correlated("40 pairs with ties", *noisy(40, 0.8, 0)),
    correlated("12 pairs with a tie on one side", [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], rng.permutation(12)),
    correlated("40 pairs, one out of order", list(range(40)), [1, 0] + list(range(2, 40))),
]


def differing(name, values):
    result = stats.wilcoxon(values, zero_method="wilcox", correction=False)
    return {"name": name, "differences": list(map(float, values)),
            "wilcoxon": [float(result.statistic), float(result.pvalue)]}


differences = [
    differing("6 of one sign", [1.5, 2.5, 0.5, 3.5, 4.5, 5.5]),
    differing("20", rng.normal(0.4, 1, 20).round(6)),
    differing("50", rng.normal(0.2, 1, 50).round(6)),
    differing("51", rng.normal(0.2, 1, 51).round(6)),
    differing("200", rng.normal(0.3, 1, 200).round(6)),
    differing("60 with ties and zeros", rng.normal(0.3, 1, 60).round(0)),
]

path = pathlib.Path(__file__).parent.parent / "tests/golden/statistics.json"
path.write_text(json.dumps({"scipy": __import__("scipy").__version__, "correlations": correlations,
                            "differences": differences}, indent=1) + "\n")
