"""Exact McNemar tests by scipy. usage: python make_mcnemar.py > mcnemar.json"""
import json
import platform

import scipy
from scipy.stats import binomtest

sizes = [(0, 0), (1, 0), (0, 3), (500, 500), (480, 520), (1000, 1200), (3, 400), (60, 20)]
pairs = sizes + [(g, l) for g in (0, 1, 2, 5, 9, 17) for l in (1, 2, 4, 9, 30, 101)]
cases = [
    dict(gained=g, lost=l, p=binomtest(min(g, l), g + l, 0.5).pvalue if g + l else 1.0) for g, l in pairs
]
print(json.dumps(dict(versions=dict(scipy=scipy.__version__, python=platform.python_version()), cases=cases), indent=1))
