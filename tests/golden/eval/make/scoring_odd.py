"""Odd replies, choices and values: what lm-eval's own filters, metrics and aggregations make of them, in the form of `scoring.json`.
usage: scoring_odd.py OUT"""
import json, os, random, sys, importlib.metadata as md
import numpy as np
os.environ["HF_DATASETS_OFFLINE"] = "1"
from lm_eval.api import metrics as M
from lm_eval.filters.extraction import RegexFilter
from lm_eval.models.utils import postprocess_generated_text
from lm_eval.tasks.hellaswag.utils import preprocess
from lm_eval.tasks.truthfulqa.utils import process_results_mc2
r = random.Random(15)
strict = RegexFilter(regex_pattern="#### (\\-?[0-9\\.\\,]+)"); flex = RegexFilter(regex_pattern="(-?[$0-9.,]{2,})|(-?[0-9]+)", group_select=-1)
ignored = [",", "\\$", "(?s).*#### ", "\\.$"]
def match(gold, part):
    return float(M.exact_match_hf_evaluate(predictions=[part], references=[gold], regexes_to_ignore=ignored, ignore_case=True)["exact_match"])
P = ["#### ", "####", "##### ", "7", "12", "0", "-", "−", "$", "€", ",", ".", "..", " ", "\n", "\u00a0", "½", "٣", "１２", "x", "The answer is ", "=", "1,000", "3.50", "-4", "%", "(", ")", "1e5", "<<3*4=12>>", "İ", "\t", "#### -", "#### $", "####\u00a0", "\x1c"]
G = ["#### 7", "a\n#### 1,000", "#### -4", "x #### 3\n#### 12", "#### 3.50", "#### $12.", "no mark", "#### ", "7", "####  7"]
rows = []
for i in range(400):
    reply = "".join(r.choice(P) for _ in range(r.randint(0, 9))); gold = r.choice(G)
    s = strict.apply([[reply]], [{}])[0][0]; f = flex.apply([[reply]], [{}])[0][0]
    rows.append(dict(gold=gold, reply=reply, strict=s, flexible=f, strict_match=match(gold, s), flexible_match=match(gold, f)))
choices = []
T = ["a", "bb", "ccc", "é", "e\u0301", "日本", "🙂", " x", "x ", "long words here", "\n", "ﬁ", "👨‍👩‍👧"]
for i in range(120):
    n = r.randint(1, 6); texts = [r.choice(T) for _ in range(n)]
    lls = [r.choice([-1.0, -2.0, -3.0, -0.5, -6.25, r.uniform(-9, 0)]) for _ in range(n)]; gold = r.randrange(n)
    # As `ConfigurableTask.process_results`.
    length = np.array([float(len(t)) for t in texts]); size = np.array([float(len(t.encode())) for t in texts])
    one = lambda x: 1.0 if np.argmax(x) == gold else 0.0
    choices.append(dict(choices=texts, loglikelihoods=lls, gold=gold, acc=one(lls), acc_norm=one(np.array(lls) / length), acc_bytes=one(np.array(lls) / size)))
mc2 = []
for i in range(60):
    n = r.randint(1, 9); labels = [r.randint(0, 1) for _ in range(n)]; lls = [r.choice([-1.0, -3.5, -700.0, r.uniform(-60, 0)]) for _ in range(n)]
    mc2.append(dict(labels=labels, loglikelihoods=lls, acc=float(process_results_mc2(dict(mc2_targets=dict(labels=labels)), [(x, False) for x in lls])["acc"])))
texts = ["".join(r.choice(["[title]", " [title]", "[step]", "[", "]", " ", "  ", "   ", "a", "B.", "\n", "[x y]", "é", "\u00a0"]) for _ in range(r.randint(1, 9))) for _ in range(80)]
stop = []
S = ["Question:", "</s>", "<|im_end|>", "\n\n", "", "Q", "é"]
for i in range(60):
    text = "".join(r.choice(S + ["a ", "b", "Quest", "ion:", "</", "s>", "\n"]) for _ in range(r.randint(0, 8))); until = r.sample(S, r.randint(1, 3))
    stop.append(dict(text=text, stop=until, cut=postprocess_generated_text(text, list(until), None)))
se = [dict(values=x, mean=M.mean(x), stderr=M.mean_stderr(x)) for x in ([r.choice([0.0, 1.0, r.random()]) for _ in range(r.randint(2, 30))] for _ in range(12))]
gr = []
for i in range(12):
    n = r.randint(1, 5); v = [r.random() for _ in range(n)]; s = [r.random() / 9 for _ in range(n)]; z = [r.randint(2, 300) for _ in range(n)]
    gr.append(dict(values=v, stderrs=s, sizes=z, weighted=float(M.aggregate_subtask_metrics(v, z, True)), pooled_stderr=float(M.pooled_sample_stderr(s, z)), unweighted=float(M.aggregate_subtask_metrics(v, z, False)), unweighted_stderr=float(M.unweighted_mean_stderr(s))))
cap = ["".join(r.choice(["ß", "ǆ", "ﬁ", "İ", "I", "É", "a", "Z", " ", "1", "Σ", "ς", "ŉ", "ᾳ", "Ⅷ", "ⓐ", "'", "ა"]) for _ in range(r.randint(0, 5))) for _ in range(80)]
json.dump(dict(kind="odd scores without a model", lm_eval=md.version("lm_eval"), gsm8k=rows, stop=stop, choices=choices, mc2=mc2, stderr=se, groups=gr, hellaswag_preprocess=[dict(text=t, out=preprocess(t)) for t in texts], capitalize=[dict(text=t, out=t.capitalize()) for t in cap]), open(sys.argv[1], "w"), ensure_ascii=False, separators=(",", ":"))
print({k: len(v) for k, v in dict(gsm8k=rows, stop=stop, choices=choices, mc2=mc2).items()}, sum(x["strict_match"] for x in rows), sum(x["flexible_match"] for x in rows))
