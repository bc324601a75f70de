#!/usr/bin/env python3
"""Compares Gpt with transformers on small random models of every supported family: imports folders saved by transformers and
compares logits, loss, gradients and 40 greedy tokens; and opens the folders that we export with from_pretrained.

Usage: transformers_oracle.py path/to/oracle_hugging_face_step [seed]
"""
import json
import os
import random
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import transformers as tf
from safetensors.torch import load_file, save_file

VOCABULARY, CONTEXT = 61, 64


def sizes(**more):
    return {"vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT,
            "bos_token_id": 1, "eos_token_id": 2,
            "pad_token_id": None, **more}  # in transformers, the padding token's embedding would have no gradient


def gpt2(**more):
    return {"vocab_size": VOCABULARY, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT,
            "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2, **more}


def rope(kind, theta=10000.0, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **more}}


LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
CASES = [
    ("gpt2", tf.GPT2Config, gpt2()),
    ("gpt2 gelu", tf.GPT2Config, gpt2(activation_function="gelu", n_inner=50, layer_norm_epsilon=1e-3)),
    ("gpt2 by layer", tf.GPT2Config, gpt2(scale_attn_by_inverse_layer_idx=True, activation_function="relu")),
    ("gpt2 unscaled, untied", tf.GPT2Config, gpt2(scale_attn_weights=False, tie_word_embeddings=False)),
    ("llama", tf.LlamaConfig, sizes()),
    ("llama tied, as SmolLM", tf.LlamaConfig, sizes(tie_word_embeddings=True, rms_norm_eps=1e-5, is_llama_config=True,
                                                    rope_interleaved=False, num_key_value_heads=1)),
    ("llama 3.1", tf.LlamaConfig, sizes(**rope("llama3", 500000.0, **LLAMA3))),
    ("llama linear", tf.LlamaConfig, sizes(**rope("linear", factor=4.0))),
    ("llama dynamic", tf.LlamaConfig, sizes(**rope("dynamic", factor=4.0))),
    ("llama yarn", tf.LlamaConfig, sizes(**rope("yarn", factor=4.0, original_max_position_embeddings=16))),
    ("llama yarn with factors", tf.LlamaConfig, sizes(**rope("yarn", factor=2.0, beta_fast=16.0, beta_slow=2.0,
                                                             attention_factor=0.9, original_max_position_embeddings=32))),
    ("llama with biases", tf.LlamaConfig, sizes(attention_bias=True, mlp_bias=True, hidden_act="gelu")),
    ("llama with wide heads", tf.LlamaConfig, sizes(head_dim=20, hidden_act="gelu_pytorch_tanh")),
    ("mistral", tf.MistralConfig, sizes(sliding_window=7)),
    ("mistral without window", tf.MistralConfig, sizes(sliding_window=None, head_dim=16)),
    ("qwen2", tf.Qwen2Config, sizes(tie_word_embeddings=True, **rope("default", 1000000.0))),
    ("qwen2 with windows", tf.Qwen2Config, sizes(use_sliding_window=True, sliding_window=6, max_window_layers=1)),
    ("qwen3", tf.Qwen3Config, sizes(head_dim=16, tie_word_embeddings=True)),
    ("qwen3 with windows and biases", tf.Qwen3Config, sizes(head_dim=10, attention_bias=True, use_sliding_window=True,
                                                            sliding_window=6, max_window_layers=2)),
    ("gemma", tf.GemmaConfig, sizes(head_dim=16, num_key_value_heads=1)),
    ("gemma with exact gates", tf.GemmaConfig, sizes(head_dim=16, hidden_act="gelu_python")),
    ("gemma 2", tf.Gemma2Config, sizes(head_dim=16, query_pre_attn_scalar=24, sliding_window=8,
                                       attn_logit_softcapping=5.0, final_logit_softcapping=4.0)),
    ("gemma 3", tf.Gemma3TextConfig, sizes(head_dim=16, query_pre_attn_scalar=16, sliding_window=8,
                                           layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                                           rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0,
                                                                               "rope_theta": 1000000.0},
                                                            "sliding_attention": {"rope_type": "default",
                                                                                  "rope_theta": 10000.0}})),
    ("phi 3", tf.Phi3Config, sizes(sliding_window=11)),
    ("granite", tf.GraniteConfig, sizes(embedding_multiplier=3.0, logits_scaling=4.0, residual_multiplier=0.3,
                                        attention_multiplier=0.2)),
]


def old_form(folder):
    """Converts config.json to the format of transformers 4."""
    path = os.path.join(folder, "config.json")
    config = json.load(open(path))
    parameters = config.pop("rope_parameters", None)
    if parameters is None:
        return
    if "full_attention" in parameters:
        config["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        parameters = parameters["full_attention"]
    config["rope_theta"] = parameters.pop("rope_theta")
    parameters.pop("partial_rotary_factor", None)
    config["rope_scaling"] = None if parameters["rope_type"] == "default" else parameters
    config["torch_dtype"] = config.pop("dtype", "float32")
    json.dump(config, open(path, "w"))


def randomise(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                unit = name.endswith("weight") and "gemma" not in model.config.model_type
                p.copy_(torch.randn_like(p) * 0.2 + (1 if unit else 0))
            else:
                p.copy_(torch.randn_like(p) * (0.6 if "emb" in name or "wte" in name else 1.2 / p.shape[1] ** 0.5))


def worst(ours, theirs, least=1e-9):
    return float((ours - theirs).abs().max()) / max(float(theirs.abs().max()), least)


def greedy(model, tokens, count):
    """(token, margin to the second logit) of each step, each computed from the whole sequence."""
    steps = []
    for _ in range(count):
        with torch.no_grad():
            best = model(input_ids=tokens).logits[0, -1].topk(2)
        steps.append((int(best.indices[0]), float(best.values[0] - best.values[1])))
        tokens = torch.cat([tokens, best.indices[:1][None]], dim=1)
    return steps


def compare(program, name, model, reopen):
    failures = []

    def check(what, value, bound):
        if not value <= bound:
            failures.append(f"{what} differs by {value:.3g}, allowed {bound:.3g}")

    inputs = torch.randint(VOCABULARY, (3, CONTEXT - 11), dtype=torch.int32)
    targets = torch.randint(VOCABULARY, inputs.shape, dtype=torch.int32)
    targets[0, 1] = -1
    with tempfile.TemporaryDirectory() as work:
        folder, exported = os.path.join(work, "model"), os.path.join(work, "exported")
        os.mkdir(exported)
        model.save_pretrained(folder)
        if reopen:
            old_form(folder)
        source, result = os.path.join(work, "in.safetensors"), os.path.join(work, "out.safetensors")
        save_file({"inputs": inputs, "targets": targets}, source)
        subprocess.run([program, folder, source, result, exported], check=True)
        ours = load_file(result)
        opened = tf.AutoModelForCausalLM.from_pretrained(exported, attn_implementation="eager").eval()
    model.train()
    logits = model(input_ids=inputs.long()).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten().long(), ignore_index=-1)
    loss.backward()
    model.eval()
    check("logits", worst(ours["logits"], logits.detach()), 3e-5)
    check("loss", abs(float(ours["loss"]) / float(loss) - 1), 1e-6)
    named = dict(model.named_parameters())
    for key, tensor in ours.items():
        if not key.startswith("gradient "):
            continue
        key = key.removeprefix("gradient ")
        if key in named:
            check(f"gradient of {key}", worst(tensor, named[key].grad, 1e-6), 2e-4)
        elif model.config.model_type != "phi3":
            failures.append(f"{key} is not a parameter of {type(model).__name__}")
    steps = greedy(model, inputs[:1, :5].long(), len(ours["greedy"]))
    for i, ((token, ahead), mine) in enumerate(zip(steps, ours["greedy"].tolist())):
        if token != mine:
            if ahead > 1e-4:
                failures.append(f"token {i} is {mine}, expected {token}, whose logit is larger by {ahead:.3g}")
            break
    with torch.no_grad():
        check(f"logits of the exported {type(opened).__name__}",
              worst(opened(input_ids=inputs.long()).logits, logits), 3e-5)
    print(f"{'FAILED' if failures else 'ok'}: {name}{' (old form)' if reopen else ''}: "
          f"{type(model).__name__}, exported as {type(opened).__name__}")
    for failure in failures:
        print("    " + failure)
    return len(failures)


def main():
    program = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 31)
    print(f"seed {seed}, transformers {tf.__version__}, torch {torch.__version__}")
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    tf.utils.logging.disable_progress_bar()
    failures = 0
    for name, config_class, keys in CASES:
        for reopen in (False, True):
            config = config_class(**json.loads(json.dumps(keys)))
            model = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
            randomise(model)
            failures += compare(program, name, model, reopen)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
