"""The sweeps that parts run: few steps, small batches, the data that `pack` carries."""

_HEAD = """extends = ["base/mini.toml"]
[sweep]
name = "{name}"
question = "Is it the same on a card?"
seeds = {seeds}
"""

_BASE = """
[base]
pipeline = ["sft", "dpo"]
[base.sft.recipe]
seed = 1
max-seq-len = 96
batching = "best-fit"
batch = {{ tokens = 192 }}
duration = {{ steps = {steps} }}
{more}
[base.dpo.recipe]
data = [{{ path = "data/pref/polite_train.jsonl", count = 4 }}]
global-batch-size = 2
limits = {{ max-seq-len = 96, max-prompt-len = 64, truncation = "keep-end" }}
[base.eval.recipe.likelihood.instruct]
data = [{{ path = "data/sft/instruct_test.jsonl", count = 4 }}]
max-seq-len = 96
[base.eval.recipe.likelihood.tales]
data = [{{ path = "data/sft/stories_test.jsonl", count = 1 }}]
max-seq-len = 96
[base.eval.recipe.preference.polite]
data = [{{ path = "data/pref/polite_test.jsonl", count = 4 }}]
limits = {{ max-seq-len = 96, max-prompt-len = 64, truncation = "keep-end" }}
"""

_TABLE = """
[[report.table]]
name = "main"
title = "What is compared"
metrics = ["instruct/loss", "tales/loss", "polite/rewards/margins"]
"""

# The same where no pairs are learnt from.
_SFT_TABLE = _TABLE.replace(', "polite/rewards/margins"', "")

_MADE = """
[base.model]
path = "models/made"
"""

_LORA = '{ rank = 4, alpha = 8.0, targets = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"] }'


def steps():
    """SFT and DPO in f32 and in bf16, and SFT of adapters in f32, of one model."""
    arms = f"""
[[axis]]
name = "arm"
points = [
  {{ label = "f32", set = {{ }} }},
  {{ label = "bf16", set = {{ "sft.recipe.precision" = "bf16", "dpo.recipe.precision" = "bf16" }} }},
  {{ label = "lora", set = {{ pipeline = ["sft"], "sft.recipe.lora" = {_LORA} }} }},
]
"""
    more = _BASE.format(steps=3, more="") + _MADE
    return _HEAD.format(name="steps", seeds=[1]) + more + arms + _TABLE


def sweep():
    """SFT, DPO at two strengths and a round of online DPO, with sampled stories, of two seeds."""
    axis = """
[[axis]]
name = "arm"
points = [
  { label = "weak", set = { "dpo.recipe.beta" = 0.05 } },
  { label = "strong", set = { "dpo.recipe.beta" = 0.5 } },
  { label = "online", set = { pipeline = ["sft", "online-dpo"] } },
]
[base.online-dpo.recipe]
rounds = 1
samples = 4
sampling = { temperature = 1.0, top-p = 1.0, max-new-tokens = 48 }
prompts = { per-round = 8 }
dpo = { duration = { steps = 2 }, global-batch-size = 2 }
[base.eval.recipe.stories.stories]
data = [{ path = "data/sft/stories_test.jsonl" }]
max-prompts = 2
samples = 1
sampling = { temperature = 0.7, top-p = 0.95, max-new-tokens = 12 }
seed = 1
"""
    return _HEAD.format(name="sweep", seeds=[1, 2]) + _BASE.format(steps=6, more="") + axis + _TABLE


def saved(name, steps):
    """Training that saves its state after every step."""
    saves = "[base.sft.runtime]\ncheckpoint-every-steps = 1"
    base = _BASE.format(steps=steps, more=saves).replace('["sft", "dpo"]', '["sft"]')
    return _HEAD.format(name=name, seeds=[1]) + base + _SFT_TABLE


# Passes whose activations are small beside the weights.
SMALL_PASSES = "[base.sft.runtime]\nmicro-batch-tokens = 192"


def large(more=""):
    """SFT of `models/made`, the second step with a rate."""
    base = _BASE.format(steps=2, more=more).replace('["sft", "dpo"]', '["sft"]')
    return _HEAD.format(name="memory", seeds=[1]) + base + _MADE + _SFT_TABLE
