"""Reference numbers for the tests of src/metrics, printed by SciPy.

Run: python3 -m venv venv && venv/bin/pip install scipy==1.17.1 numpy==2.4.6 && venv/bin/python make_statistics.py
Its output is kept in statistics.json beside this file; the tests quote the numbers.
"""

import json
import sys

import numpy
import scipy
from scipy import stats

root3 = 3**0.5
paired = stats.ttest_rel([1.1, 1.3, 1.0, 1.4], [1.0, 1.0, 0.9, 1.1])
square, slope, level = numpy.polyfit([9.0, 9.5, 10.0, 10.5, 11.0], [0.842, 0.861, 0.874, 0.871, 0.866], 2)
result = {
    "versions": {"python": sys.version.split()[0], "scipy": scipy.__version__, "numpy": numpy.__version__},
    "t_quantile_0.975": {str(df): float(stats.t.ppf(0.975, df)) for df in (1, 2, 4, 9, 30)},
    "t_interval_1_2_3": [float(v) for v in stats.t.interval(0.95, 2, loc=2.0, scale=1 / root3)],
    "paired_t": {"statistic": float(paired.statistic), "p": float(paired.pvalue)},
    "parabola": {"c": float(square), "b": float(slope), "a": float(level), "turn": float(-slope / (2 * square))},
}
print(json.dumps(result, indent=2))
