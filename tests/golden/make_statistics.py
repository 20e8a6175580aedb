"""Reference numbers for the tests of src/metrics, printed by SciPy and statsmodels.

Run: python3 -m venv venv && venv/bin/pip install scipy==1.17.1 numpy==2.4.6 statsmodels==0.14.5 && venv/bin/python make_statistics.py
Its output is kept in statistics.json beside this file; the tests quote the numbers.
"""

import json
import sys

import numpy
import scipy
import statsmodels
from scipy import optimize, stats
from statsmodels.regression.linear_model import OLS, WLS

root3 = 3**0.5
paired = stats.ttest_rel([1.1, 1.3, 1.0, 1.4], [1.0, 1.0, 0.9, 1.1])
square, slope, level = numpy.polyfit([9.0, 9.5, 10.0, 10.5, 11.0], [0.842, 0.861, 0.874, 0.871, 0.866], 2)


def half_width(alpha, seeds=0.0004, seeds_df=10, rows=0.0001, rows_df=160):
    """Each part of the variance with its own quantile."""
    return (stats.t.isf(alpha / 2, seeds_df) ** 2 * seeds + stats.t.isf(alpha / 2, rows_df) ** 2 * rows) ** 0.5


def p_value(difference):
    """The level at which the half width is the difference."""
    return 10 ** optimize.brentq(lambda e: half_width(10**e) - difference, -30, -1e-9, xtol=1e-13)


def two_way(cells):
    """Residual mean square of arms and seeds."""
    arms, seeds = sorted({a for a, _ in cells}), sorted({s for _, s in cells})
    rows = [[1.0] + [float(a == x) for x in arms[1:]] + [float(s == x) for x in seeds[1:]] for a, s in cells]
    return float(OLS(list(cells.values()), rows).fit().mse_resid)


def clustered(values, weights, clusters):
    """Clustered standard error of a weighted mean."""
    model = WLS(values, numpy.ones(len(values)), weights=weights)
    return float(model.fit(cov_type="cluster", cov_kwds={"groups": clusters}).bse[0])


cells = {(0, 1): 1.0, (0, 2): 2.0, (0, 3): 4.0, (1, 1): 2.5, (1, 3): 7.0, (2, 1): 0.5, (2, 2): 2.5, (2, 3): 3.0}
result = {
    "versions": {
        "python": sys.version.split()[0],
        "scipy": scipy.__version__,
        "numpy": numpy.__version__,
        "statsmodels": statsmodels.__version__,
    },
    "spread": {"half_width": half_width(0.05), "p": {str(d): p_value(d) for d in (0.03, 0.06, 0.3)}},
    "two_way_with_a_cell_missing": two_way(cells),
    "bartlett": float(stats.bartlett([1.0, 2.0, 3.5, 4.0], [2.0, 9.0, 4.0], [1.0, 1.1, 1.3, 0.8]).pvalue),
    "clustered_error": clustered([1.0, 2.0, 0.5, 4.0, 3.0, 1.5], [1.0, 2.0, 1.0, 3.0, 2.0, 1.0], [0, 0, 1, 1, 2, 2]),
    "t_quantile_0.975": {str(df): float(stats.t.ppf(0.975, df)) for df in (1, 2, 4, 9, 30)},
    "t_interval_1_2_3": [float(v) for v in stats.t.interval(0.95, 2, loc=2.0, scale=1 / root3)],
    "paired_t": {"statistic": float(paired.statistic), "p": float(paired.pvalue)},
    "parabola": {"c": float(square), "b": float(slope), "a": float(level), "turn": float(-slope / (2 * square))},
}
print(json.dumps(result, indent=2))
