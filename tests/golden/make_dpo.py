"""Golden numbers of DPO, taken from TRL's own code on real preference pairs.

Policy = the shipped model with every weight moved by +-1/32 of itself (`common.perturb`),
reference = the shipped model. Batches come from TRL's `DataCollatorForPreference`; losses,
rewards and gradients from `DPOTrainer._compute_loss` (TRL 1.16), called on that batch.

    python tests/golden/make_dpo.py

Two things about TRL 1.16 that the numbers depend on, both asserted below:
- `loss_type="sigmoid"` ignores `label_smoothing`. The conservative form (cDPO) is still in the
  trainer as `aot`, whose sort over the batch does nothing when the batch is one pair: so the
  smoothed numbers are `aot` on one pair at a time, averaged.
- `ipo` divides each log-ratio by the number of completion tokens.

Writes dpo.json (pairs, log-probabilities, loss, rewards, fingerprints of every gradient) and
dpo_losses.json (value and gradient with respect to the four log-probabilities, in f64, of each
preference loss that TRL has, again from `_compute_loss`, fed with given log-probabilities).
"""

import os
import tempfile
from types import SimpleNamespace

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from common import (
    MODEL, encode_prompt, encode_reply, encoder, fingerprint, load_model, perturb, rows, settle,
    versions, write_json,
)

PAIRS = ["polite-0001", "polite-0003", "polite-0006", "polite-0007", "polite-0011", "polite-0014",
         "polite-0020", "polite-0025"]
BETA = 0.1
SMOOTHING = 0.1


class GivenTokens(DPOTrainer):
    """The trainer without its tokenisation: rows already hold prompt_ids, chosen_ids, rejected_ids."""

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        return dataset


def make_trainer(policy, reference, pairs):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(MODEL / "tokenizer.json"),
                                        bos_token="<s>", eos_token="</s>", pad_token="</s>")
    args = DPOConfig(output_dir=tempfile.mkdtemp(), report_to=[], use_cpu=True, beta=BETA,
                     gradient_checkpointing=False, bf16=False)
    keep = ("prompt_ids", "chosen_ids", "rejected_ids")
    data = Dataset.from_list([{k: p[k] for k in keep} for p in pairs])
    return GivenTokens(model=policy, ref_model=reference, args=args, train_dataset=data,
                       processing_class=tokenizer)


def set_loss(trainer, name, smoothing=0.0, beta=BETA, divergence="reverse_kl"):
    trainer.loss_types, trainer.loss_weights = [name], [1.0]
    trainer.label_smoothing, trainer.beta = smoothing, beta
    trainer.f_divergence_type = divergence


def read_pairs():
    encode = encoder()
    return [{"id": r["id"], "prompt_ids": encode_prompt(encode, r["prompt"]),
             "chosen_ids": encode_reply(encode, r["chosen"]),
             "rejected_ids": encode_reply(encode, r["rejected"])}
            for r in rows("data/pref/polite_train.jsonl", PAIRS)]


def gradients(model):
    return {n: fingerprint(p.grad) for n, p in sorted(model.named_parameters())}


def last(trainer, key):
    return trainer._metrics["eval"][key][-1]


def variant(trainer, collate, pairs, name, smoothing, one_by_one):
    """Loss, rewards and gradients of the mean over all pairs."""
    set_loss(trainer, name, smoothing)
    trainer.model.zero_grad()
    batches = [[p] for p in pairs] if one_by_one else [pairs]
    loss, per_pair = 0.0, []
    for batch in batches:
        part = trainer._compute_loss(trainer.model, collate(batch), False) * (len(batch) / len(pairs))
        part.backward()
        loss += part.item()
    for p in pairs:
        with torch.no_grad():
            value = trainer._compute_loss(trainer.model, collate([p]), False).item()
        per_pair.append({
            "id": p["id"], "loss": value,
            **{k: last(trainer, k) for k in ("logps/chosen", "logps/rejected", "rewards/chosen",
                                             "rewards/rejected", "rewards/margins",
                                             "rewards/accuracies")},
        })
    grads = {n: p.grad.clone() for n, p in trainer.model.named_parameters()}
    return {
        "trl_loss_type": name, "beta": BETA, "label_smoothing": smoothing,
        "loss": loss, "pairs": per_pair,
        "grad_norm": torch.stack([g.norm() for g in grads.values()]).norm().item(),
        "gradients": gradients(trainer.model),
    }


def fake_model(token_logps):
    """Stands in for the policy: hands TRL's loss the log-probabilities it is to start from."""
    def forward(**_):
        zeros = torch.zeros_like(token_logps)
        return SimpleNamespace(log_probs=token_logps, entropy=zeros, mean_logits=zeros,
                               is_top1=torch.zeros_like(token_logps, dtype=torch.bool))
    forward.training = False
    return forward


def loss_cases():
    """(name of ours, TRL loss type, label smoothing, beta, divergence)."""
    plain = ["sigmoid", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down",
             "discopop", "sigmoid_norm", "aot", "aot_unpaired"]
    cases = [(n, n, 0.0, b, "reverse_kl") for n in plain for b in (0.1, 0.5)]
    cases += [(n, n, s, b, "reverse_kl") for n in ("robust", "exo_pair", "aot", "aot_unpaired")
              for s, b in ((0.1, 0.1), (0.3, 0.5))]
    cases += [("sigmoid", "sigmoid", 0.0, 0.1, d) for d in ("forward_kl", "js_divergence")]
    return cases


def losses(trainer, sets):
    out = []
    trainer.precompute_ref_logps = True
    for set_name, lp in sets.items():
        for ours, name, smoothing, beta, divergence in loss_cases():
            out.append(one_loss(trainer, set_name, lp, ours, name, smoothing, beta, divergence))
        # cDPO: TRL's aot, one pair at a time (see the head of this file)
        for smoothing, beta in ((0.1, 0.1), (0.3, 0.5)):
            parts = [one_loss(trainer, set_name, {k: v[i:i + 1] for k, v in lp.items()}, "sigmoid",
                              "aot", smoothing, beta, "reverse_kl") for i in range(len(lp["chosen"]))]
            n = len(parts)
            out.append({**parts[0], "loss": sum(p["loss"] for p in parts) / n,
                        **{k: [p[k][0] / n for p in parts] for k in ("d_chosen", "d_rejected")}})
    trainer.precompute_ref_logps = False
    return out


def one_loss(trainer, set_name, lp, ours, name, smoothing, beta, divergence):
    set_loss(trainer, name, smoothing, beta, divergence)
    tensor = {k: torch.tensor(v, dtype=torch.float64) for k, v in lp.items() if "length" not in k}
    lengths = lp["chosen_length"] + lp["rejected_length"]
    width = max(lengths) + 1  # one prompt token before every completion
    mask = torch.tensor([[0] + [1] * n + [0] * (width - 1 - n) for n in lengths])
    # the summed log-probability sits on the first completion token; every other token is 0
    first = torch.cat([tensor["chosen"], tensor["rejected"]]).requires_grad_(True)
    tokens = torch.zeros(len(lengths), width - 1, dtype=torch.float64)
    tokens = torch.cat([first.unsqueeze(1), tokens[:, 1:]], dim=1)
    inputs = {"input_ids": torch.zeros_like(mask), "attention_mask": torch.ones_like(mask),
              "completion_mask": mask, "ref_chosen_logps": tensor["ref_chosen"],
              "ref_rejected_logps": tensor["ref_rejected"]}
    loss = trainer._compute_loss(fake_model(tokens), inputs, False)
    d_chosen, d_rejected = torch.autograd.grad(loss, first)[0].chunk(2)
    return {"set": set_name, "loss_type": ours, "trl_loss_type": name, "label_smoothing": smoothing,
            "beta": beta, "f_divergence": divergence, "loss": loss.item(),
            "d_chosen": d_chosen.tolist(), "d_rejected": d_rejected.tolist()}


def main():
    settle()
    pairs = read_pairs()
    policy, reference = load_model(), load_model()
    perturb(policy)
    trainer = make_trainer(policy, reference, pairs)
    trainer.model.eval()
    collate = DataCollatorForPreference(pad_token_id=0)
    batch = collate(pairs)
    with torch.no_grad():
        ref_chosen, ref_rejected = trainer.compute_ref_log_probs(trainer.ref_model, batch)
        chosen, rejected = trainer.compute_ref_log_probs(trainer.model, batch)

    sigmoid = variant(trainer, collate, pairs, "sigmoid", 0.0, one_by_one=False)
    ignored = variant(trainer, collate, pairs, "sigmoid", SMOOTHING, one_by_one=False)
    assert ignored["loss"] == sigmoid["loss"], "TRL's sigmoid now smooths labels: use it directly"
    unsmoothed = variant(trainer, collate, pairs, "aot", 0.0, one_by_one=True)
    assert abs(unsmoothed["loss"] - sigmoid["loss"]) < 1e-6 * abs(sigmoid["loss"])
    smoothed = variant(trainer, collate, pairs, "aot", SMOOTHING, one_by_one=True)

    made_with = versions("trl", "accelerate", "datasets")
    write_json("dpo.json", {
        "about": "DPO on real pairs; log-probabilities in nats summed over the completion, f32",
        "made_with": made_with,
        "trl_functions": ["trl.trainer.dpo_trainer.DataCollatorForPreference",
                          "trl.DPOTrainer._compute_loss", "trl.DPOTrainer.compute_ref_log_probs"],
        "pairs": {p["id"]: {"prompt": p["prompt_ids"], "chosen": p["chosen_ids"],
                            "rejected": p["rejected_ids"], "ref_logps": [a, b], "logps": [c, d]}
                  for p, a, b, c, d in zip(pairs, ref_chosen.tolist(), ref_rejected.tolist(),
                                           chosen.tolist(), rejected.tolist())},
        "variants": {"sigmoid": sigmoid, "sigmoid_smoothed": smoothed},
    }, depth=4)

    sets = {
        "real": {"chosen": chosen.tolist(), "rejected": rejected.tolist(),
                 "ref_chosen": ref_chosen.tolist(), "ref_rejected": ref_rejected.tolist(),
                 "chosen_length": [len(p["chosen_ids"]) for p in pairs],
                 "rejected_length": [len(p["rejected_ids"]) for p in pairs]},
        # log-ratios from -60 to +60, both orders, so that every branch and tail is met
        "spread": {"chosen": [-20.0, -95.5, -31.25, -140.0, -12.5, -80.0],
                   "rejected": [-80.0, -35.5, -30.0, -70.0, -13.0, -20.0],
                   "ref_chosen": [-80.0, -40.0, -30.5, -120.0, -14.0, -79.0],
                   "ref_rejected": [-20.0, -45.0, -31.5, -130.0, -12.0, -25.0],
                   "chosen_length": [10, 33, 12, 40, 5, 25],
                   "rejected_length": [30, 11, 9, 22, 6, 7]},
    }
    write_json("dpo_losses.json", {
        "about": "preference losses of TRL as a function of log-probabilities; loss is the mean over"
                 " the set's pairs, d_* its gradient; f64",
        "made_with": made_with,
        "discopop_tau": trainer.args.discopop_tau,
        "sets": sets,
        "cases": {str(i): c for i, c in enumerate(losses(trainer, sets))},
    }, depth=2, digits=15)


if __name__ == "__main__":
    main()
