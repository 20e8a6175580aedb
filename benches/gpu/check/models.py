"""Model folders with random weights, by the standard library alone."""

import array
import json
import random
import shutil
import struct
from pathlib import Path

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def parsed(data):
    """What a safetensors file says of its arrays, and their bytes behind one another."""
    length = struct.unpack("<Q", data[:8])[0]
    about = json.loads(data[8:8 + length])
    return {name: of for name, of in about.items() if name != "__metadata__"}, data[8 + length:]


def header(path):
    """Names and shapes of the arrays of a safetensors file."""
    return {name: of["shape"] for name, of in parsed(Path(path).read_bytes())[0].items()}


def weights(path):
    """All numbers of a safetensors file of f32 or bf16, behind one another."""
    about, data = parsed(Path(path).read_bytes())
    found = array.array("f")
    for name in sorted(about):
        begin, end = about[name]["data_offsets"]
        part = data[begin:end]
        if about[name]["dtype"] == "BF16":  # the upper half of an f32
            part = array.array("I", (x << 16 for x in array.array("H", part))).tobytes()
        elif about[name]["dtype"] != "F32":
            raise ValueError(f"{path}: numbers of type {about[name]['dtype']}")
        found.frombytes(part)
    return found


def write(path, shapes, numbers):
    """A safetensors file of f32; `numbers(name, count)` gives the bytes of an array."""
    at, about = 0, {}
    for name, shape in shapes.items():
        count = 4
        for size in shape:
            count *= size
        about[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + count]}
        at += count
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, info in about.items():
            begin, end = info["data_offsets"]
            file.write(numbers(name, (end - begin) // 4))


def family(golden, tokenizer, target):
    """The family of a golden folder with the words of the shipped tokenizer and heads as wide as tensor cores want."""
    config = json.loads((golden / "config.json").read_text(encoding="utf-8"))
    config.update(vocab_size=512, max_position_embeddings=512, head_dim=64, hidden_size=64,
                  intermediate_size=96)
    heads, keys = config["num_attention_heads"], config.get("num_key_value_heads")
    sizes = {"embed_tokens": (512, 64), "lm_head": (512, 64), "q_proj": (64 * heads, 64),
             "k_proj": (64 * (keys or heads), 64), "v_proj": (64 * (keys or heads), 64),
             "o_proj": (64, 64 * heads), "gate_proj": (96, 64), "up_proj": (96, 64),
             "down_proj": (64, 96)}
    shapes = {}
    for name in header(golden / "model.safetensors"):
        layer, kind = name.split(".")[-2:]
        rows, columns = sizes.get(layer, (64, 64))
        shapes[name] = [rows, columns] if kind == "weight" and layer in sizes else [rows]
    # Gemma adds 1 to the weights of its norms.
    middle = 0.0 if config["model_type"].startswith("gemma") else 1.0
    random.seed(7)

    def numbers(name, count):
        mean, spread = (middle, 0.1) if "norm" in name else (0.0, 0.08)
        return array.array("f", (random.gauss(mean, spread) for _ in range(count))).tobytes()

    target.mkdir(parents=True)
    write(target / "model.safetensors", shapes, numbers)
    (target / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    for name in TOKENIZER:
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, target / name)


def large(tokenizer, target, count):
    """A Llama of at least so many weights, which repeat: what it learns is of no interest, only its size."""
    width = 1024 if count > 1 << 26 else 64
    layers = -(-count // (16 * width * width))
    inner, heads = 4 * width, width // 64
    config = json.loads((tokenizer / "config.json").read_text(encoding="utf-8"))
    config.update(hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, head_dim=64,
                  num_attention_heads=heads, num_key_value_heads=heads)
    square, shapes = [width, width], {"model.embed_tokens.weight": [config["vocab_size"], width],
                                      "model.norm.weight": [width]}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.{x}.weight": [width] for x in ("input_layernorm", "post_attention_layernorm")}
        shapes |= {f"{at}.self_attn.{x}_proj.weight": square for x in "qkvo"}
        shapes |= {f"{at}.mlp.{x}_proj.weight": [inner, width] for x in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = [width, inner]
    random.seed(7)
    block = array.array("f", (random.gauss(0.0, 0.02) for _ in range(1 << 14))).tobytes()
    ones = array.array("f", [1.0] * width).tobytes()

    def numbers(name, count):
        return ones if "norm" in name else (block * (count * 4 // len(block) + 1))[:count * 4]

    target.mkdir(parents=True)
    write(target / "model.safetensors", shapes, numbers)
    (target / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    for name in TOKENIZER:
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, target / name)
