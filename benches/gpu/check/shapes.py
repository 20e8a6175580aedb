"""Shapes of models that are trained with random weights: `config.json` as Hugging Face writes it."""

import json

_LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
          "attention_bias": False, "mlp_bias": False, "initializer_range": 0.02, "bos_token_id": 1,
          "eos_token_id": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "torch_dtype": "float32",
          "max_position_embeddings": 2048}

SHAPES = {
    # SmolLM2-135M
    "135m": _LLAMA | {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
                      "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
                      "vocab_size": 49152, "tie_word_embeddings": True},
    # TinyLlama-1.1B
    "1.1b": _LLAMA | {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
                      "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 64,
                      "vocab_size": 32000, "tie_word_embeddings": False},
    # gemma-2b
    "2b": {"architectures": ["GemmaForCausalLM"], "model_type": "gemma", "hidden_size": 2048,
           "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8,
           "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 256000,
           "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
           "attention_bias": False, "initializer_range": 0.02, "bos_token_id": 2, "eos_token_id": 1,
           "pad_token_id": 0, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
           "tie_word_embeddings": True, "torch_dtype": "float32", "max_position_embeddings": 8192},
}

# Positions of a step, and of a document.
TOKENS, LENGTH = 8192, 2048


def folder(name, target):
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(SHAPES[name], indent=1), encoding="utf-8")
    return target
