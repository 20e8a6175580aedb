"""Golden numbers of the judged chat benchmarks that need no data of others: tests/golden/judged/own.json.

- `switched`: which reply of AlpacaEval stands first, by Python's own generator.
- `arena_interval`: Arena-Hard-Auto v0.1's interval over battles of one model, by NumPy's own generator.
- `length_controlled`: AlpacaEval's length-controlled win rate of made-up rows, by scikit-learn's cross-validated
  logistic regression called as `alpaca_eval` 0.6.6 calls it, but with a tolerance of 1e-12.

- `wins`: how often each model beat each other one, ties half, in 43,011 verdicts of GPT-4 that artidoro/qlora (MIT)
  publishes, by benchmark and together; only with the file of these verdicts (bench, item, model_1, model_2, verdict).

usage: python tests/golden/make_judged.py VERDICTS.csv      (numpy, scikit-learn)
"""

import csv
import json
import math
import os
import random
import sys

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import make_scorer
from sklearn.model_selection import GroupKFold

HERE = os.path.dirname(os.path.abspath(__file__))


def switched():
    texts = ["What is 2+2?", "", "Wieviel ist „zwei\U0001f600“?\n", "x" * 300]
    texts += [f"Name {n} rivers of Europe." for n in range(1, 25)]
    return [
        {"instruction": t, "switched": random.Random("is_switched_outputs" + t + "0").choices([False, True], k=1)[0]}
        for t in texts
    ]


def arena_interval():
    rng = np.random.default_rng(3)
    battles = rng.choice([0.0, 0.5, 1.0], size=731, p=[0.55, 0.1, 0.35])
    np.random.seed(42)
    leads = []
    for _ in range(100):
        share = battles[np.random.choice(len(battles), len(battles), replace=True)].mean()
        leads.append(400 * math.log10(share / (1 - share)))
    low, high = (100 / (1 + 10 ** (-np.percentile(leads, q) / 400)) for q in (2.5, 97.5))
    return {"battles": battles.tolist(), "low": low, "high": high}


def length_controlled():
    rng = np.random.default_rng(5)
    n = 120
    difficulty = rng.normal(size=n).round(6)
    len_1 = rng.integers(200, 3000, size=n)
    len_2 = (len_1 * rng.uniform(0.3, 1.6, size=n)).astype(int)
    lead = len_1 - len_2
    unit = np.tanh(lead / lead.std(ddof=1))
    sig = lambda x: 1 / (1 + np.exp(-x))
    preference = sig(-1.4 * unit + 0.9 * difficulty - 0.6 + rng.normal(size=n)).round(6)
    gamed = []
    for kind, bias in (("verbose", -1.0), ("concise", 1.0)):
        for i in range(n):
            std = round(float(bias + rng.normal() * 0.7), 6)
            p = round(float(sig(-1.5 * math.tanh(std) + 0.9 * difficulty[i] + rng.normal() * 0.5)), 6)
            gamed.append({"std_delta_len": std, "difficulty": float(difficulty[i]), "preference": p})
    X = np.vstack(
        [[[math.tanh(g["std_delta_len"]), g["difficulty"], 0.0] for g in gamed], np.c_[unit, difficulty, np.ones(n)]]
    )
    p = np.r_[[g["preference"] for g in gamed], preference]
    weight = np.r_[np.full(2 * n, 0.2 / 2), np.ones(n)]

    # Every row twice, as won and as lost, with its preference as a weight.
    sklearn.set_config(enable_metadata_routing=True)
    twice, prob, true_weight = np.vstack([X, X]), np.r_[p, 1 - p], np.r_[weight, weight]
    y = np.r_[np.ones(3 * n), np.zeros(3 * n)].astype(int)

    def loss(y_true, y_pred, true_prob, true_sample_weight):
        q = np.clip(y_pred, 1e-15, 1 - 1e-15)
        t = np.where(y_true == 1, true_prob, 1 - true_prob)
        return -np.mean((t * np.log(q) + (1 - t) * np.log(1 - q)) * true_sample_weight)

    scorer = make_scorer(loss, response_method="predict_proba", greater_is_better=False)
    scorer = scorer.set_score_request(true_sample_weight=True, true_prob=True)
    model = LogisticRegressionCV(
        cv=GroupKFold(n_splits=5), scoring=scorer, random_state=123, dual=False, penalty="l1", solver="liblinear",
        fit_intercept=False, tol=1e-12, max_iter=1_000_000, use_legacy_attributes=True,
    )
    model.set_fit_request(sample_weight=True)
    model.fit(
        twice, y, sample_weight=prob * true_weight, groups=np.r_[np.arange(3 * n), np.arange(3 * n)],
        true_sample_weight=true_weight, true_prob=prob,
    )
    w = model.coef_[0]
    rate = sig(w[1] * difficulty + w[2])
    rows = [
        {"len_1": int(a), "len_2": int(b), "difficulty": float(d), "preference": 1 + float(q)}
        for a, b, d, q in zip(len_1, len_2, difficulty, preference)
    ]
    result = {
        "C": float(np.ravel(model.C_)[0]), "w_length": w[0], "w_difficulty": w[1], "w_model": w[2],
        "length_controlled_winrate": 100 * rate.mean(), "lc_standard_error": 100 * rate.std(ddof=1) / math.sqrt(n),
    }
    return {"rows": rows, "gamed": gamed, "result": result}


def wins(path):
    with open(path) as file:
        rows = list(csv.DictReader(file))
    made = {}
    for bench in ["all"] + sorted({r["bench"] for r in rows}):
        own = [r for r in rows if bench in ("all", r["bench"])]
        models = sorted({r["model_1"] for r in own} | {r["model_2"] for r in own})
        won = [[0.0] * len(models) for _ in models]
        for r in own:
            a, b = models.index(r["model_1"]), models.index(r["model_2"])
            share = {"1": 1.0, "2": 0.0, "3": 0.5}[r["verdict"]]
            won[a][b] += share
            won[b][a] += 1 - share
        made[bench] = {"models": models, "wins": won}
    return made


def main():
    made = {
        "made_with": {"numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "switched": switched(),
        "arena_interval": arena_interval(),
        "length_controlled": length_controlled(),
        "wins": wins(sys.argv[1]),
    }
    with open(os.path.join(HERE, "judged", "own.json"), "w") as file:
        json.dump(made, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")
    print(made["length_controlled"]["result"], {k: v for k, v in made["arena_interval"].items() if k != "battles"})


main()
