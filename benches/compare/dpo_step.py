"""The peer's DPO step on real pairs (data/pref/polite_train.jsonl), references precomputed.

    python benches/compare/dpo_step.py --layout trl     # TRL's collator and DPOTrainer._compute_loss
    python benches/compare/dpo_step.py --layout flat    # the same loss, padding-free
    python benches/compare/dpo_step.py --work FILE      # the steps of `lions bench dpo`

TRL 1.16 has switched its own padding-free DPO off ("temporarily unavailable"), so `trl` pads; `flat`
is what it did before, written with the fastest exact attention (`peer.register_segments`), and
computes log-probabilities of completion tokens only. Tokens counted: prompt + chosen and prompt +
rejected of every pair, no padding, in both; a shared prompt still counts twice, so that ratios of
tokens are ratios of pairs.
"""

import tempfile

import torch
import torch.nn.functional as F

from peer import (
    EOS, encoder, flatten, fused_adamw, jsonl, load, parse, parser, prompt_ids, report, train,
)

BETA = 0.1


def read_pairs():
    encode = encoder()
    return [{"prompt_ids": prompt_ids(encode, r["prompt"]), "chosen_ids": encode(r["chosen"]) + [EOS],
             "rejected_ids": encode(r["rejected"]) + [EOS]}
            for r in jsonl("data/pref/polite_train.jsonl") if len(r["prompt"]) == 1]


def real_tokens(pairs):
    return sum(2 * len(p["prompt_ids"]) + len(p["chosen_ids"]) + len(p["rejected_ids"])
               for p in pairs)


def flat_logps(model, pairs, cu):
    """Summed completion log-probabilities of [all chosen, all rejected], (2P,)."""
    sequences = ([p["prompt_ids"] + p["chosen_ids"] for p in pairs]
                 + [p["prompt_ids"] + p["rejected_ids"] for p in pairs])
    tokens, positions, starts = flatten(sequences)
    rows, segment = [], []
    for i, (start, sequence) in enumerate(zip(starts, sequences)):
        prompt = len(pairs[i % len(pairs)]["prompt_ids"])
        rows += range(start + prompt - 1, start + len(sequence) - 1)
        segment += [i] * (len(sequence) - prompt)
    rows = torch.tensor(rows)
    inputs = {"cu_seqlens": starts} if cu else {}
    hidden = model.model(input_ids=tokens, position_ids=positions, use_cache=False, **inputs)
    logits = model.lm_head(hidden.last_hidden_state[0, rows]).float()
    logps = -F.cross_entropy(logits, tokens[0, rows + 1], reduction="none")
    return torch.zeros(len(sequences)).index_add(0, torch.tensor(segment), logps)


def trl_trainer(model, pairs, folder):
    """The trainer as TRL configures it, without its tokenisation: the ids are given."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    class GivenTokens(DPOTrainer):
        def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
            return dataset

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.pad_token = tokenizer.eos_token = tokenizer.convert_ids_to_tokens(EOS)
    args = DPOConfig(output_dir=tempfile.mkdtemp(), report_to=[], use_cpu=True, beta=BETA,
                     gradient_checkpointing=False, bf16=False, precompute_ref_log_probs=True,
                     per_device_train_batch_size=16, disable_tqdm=True)
    return GivenTokens(model=model, args=args, train_dataset=Dataset.from_list(pairs),
                       processing_class=tokenizer)


def main():
    args = parser(__doc__.splitlines()[0])
    args.add_argument("--layout", choices=["trl", "flat"], default="flat")
    args.add_argument("--attention", choices=["segments", "sdpa"], default="segments",
                      help="of the flat layout")
    args.add_argument("--pairs", type=int, default=16, help="pairs a step")
    options = parse(args)
    n = options.pairs
    if options.work:
        pairs = [{f"{part}_ids": pair[part] for part in ("prompt", "chosen", "rejected")}
                 for step in options.work for pair in step["pairs"]]
        n = len(options.work[0]["pairs"])
    else:
        pairs = read_pairs()
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(1)).tolist()
        pairs = [pairs[i] for i in order[: 12 * n]]
    if options.layout == "trl":
        attention = "sdpa"
        model = load(attention, options.model)
        trainer = trl_trainer(model, pairs, options.model)
        trainer.model.train()
        pairs = list(trainer.train_dataset)  # now with ref_chosen_logps and ref_rejected_logps
        batches = [pairs[i:i + n] for i in range(0, len(pairs), n)]

        def loss_of(batch):
            return trainer._compute_loss(trainer.model, trainer.data_collator(batch), False)
    else:
        attention = options.attention
        model = load(attention, options.model)
        cu = attention == "segments"
        batches = [pairs[i:i + n] for i in range(0, len(pairs), n)]
        with torch.no_grad():
            reference = {id(b): flat_logps(model, b, cu) for b in batches}

        def loss_of(batch):
            chosen, rejected = (flat_logps(model, batch, cu) - reference[id(batch)]).chunk(2)
            return -F.logsigmoid(BETA * (chosen - rejected)).mean()

    optimizer = fused_adamw(model)
    cpu, wall, tokens, losses = train(options, model, optimizer, loss_of, batches, real_tokens)
    report(options, f"dpo/{options.layout}", cpu, wall, tokens, attention=attention,
           pairs_per_step=n, pairs_per_cpu_sec=n * len(cpu) / sum(cpu), first_loss=losses[0],
           last_loss=losses[-1])


if __name__ == "__main__":
    main()
