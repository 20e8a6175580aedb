"""The files that lm_eval itself writes of small rows, under the tasks' own names: results and samples.
usage: harness_files.py ROWS_DIR OUT_DIR MODEL_PATH     (OUT_DIR gets results.json, and samples_<task>.jsonl without their date)"""
import json, os, re, sys, tempfile
from pathlib import Path
rows, out, path = sys.argv[1:4]
os.environ.update(HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import lm_eval
from lm_eval.loggers import EvaluationTracker
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
T = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")
files = lambda **k: {a: os.path.abspath(os.path.join(rows, b + ".jsonl")) for a, b in k.items()}
TASKS = {"arc_challenge": ("arc/arc_challenge.yaml", files(train="arc_train", validation="arc_train", test="arc_test")), "hellaswag": ("hellaswag/hellaswag.yaml", files(train="hellaswag_train", validation="hellaswag_validation")),
 "truthfulqa_mc2": ("truthfulqa/truthfulqa_mc2.yaml", files(validation="truthfulqa_validation")), "winogrande": ("winogrande/default.yaml", files(train="winogrande_train", validation="winogrande_validation")), "gsm8k": ("gsm8k/gsm8k.yaml", files(train="gsm8k_train", test="gsm8k_test"))}
SUBJECTS = {"abstract_algebra": "stem", "anatomy": "stem", "world_religions": "humanities"}
TASKS |= {f"mmlu_{s}": (f"mmlu/default/mmlu_{s}.yaml", files(test=f"mmlu_{s}_test", dev=f"mmlu_{s}_dev")) for s in SUBJECTS}
work = Path(tempfile.mkdtemp())
for name, (yaml, data) in TASKS.items():
    (work / f"{name}.yaml").write_text(json.dumps({"include": os.path.join(T, yaml), "task": name, "dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": data}, "tag": None}))
mean = [{"metric": "acc", "weight_by_size": True}]
for group in ("stem", "humanities"):
    (work / f"mmlu_{group}.yaml").write_text(json.dumps({"group": f"mmlu_{group}", "group_alias": group.replace("_", " "), "task": [f"mmlu_{s}" for s, g in SUBJECTS.items() if g == group], "aggregate_metric_list": mean, "metadata": {"version": 2}}))
(work / "mmlu.yaml").write_text(json.dumps({"group": "mmlu", "task": ["mmlu_stem", "mmlu_humanities"], "aggregate_metric_list": mean, "metadata": {"version": 2}}))
made = Path(tempfile.mkdtemp())
tracker = EvaluationTracker(output_path=str(made))
lm = HFLM(pretrained=path, dtype="float32", device="cpu", batch_size=1)
found = lm_eval.simple_evaluate(model=lm, model_args={"pretrained": "tiny-qwen2"}, tasks=["arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc2", "winogrande", "gsm8k"], num_fewshot=3, gen_kwargs={"max_gen_toks": 24}, limit=4, log_samples=True, evaluation_tracker=tracker, task_manager=TaskManager(include_path=str(work), include_defaults=False))
samples = found.pop("samples")
tracker.save_results_aggregated(results=found, samples=samples)
for name in found["configs"]:
    tracker.save_results_samples(task_name=name, samples=samples[name])
os.makedirs(out, exist_ok=True)
for file in made.rglob("*.json*"):
    text = file.read_text(encoding="utf-8").replace(os.path.abspath(rows), "rows").replace(str(work), "tasks").replace(os.path.abspath(path), "tiny-qwen2").replace(T, "lm_eval/tasks")
    if file.name.startswith("results_"):
        read = json.loads(text)
        # What this machine is does not belong here.
        read.pop("pretty_env_info", None)
        text = json.dumps(read, ensure_ascii=False, indent=1) + "\n"
    Path(out, re.sub(r"_\d{4}-.*(\.jsonl?)$", r"\1", file.name)).write_text(text, encoding="utf-8")
    print(file.name)
