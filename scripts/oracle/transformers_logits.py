#!/usr/bin/env python3
"""Writes tests/golden/models/*/transformers.json: the logits of the tiny checkpoints as transformers computes them.

    python3 scripts/oracle/transformers_logits.py [NAME ...]

Runs on any Python with torch and transformers (neither is in scripts/oracle/requirements.txt: torch is large).
The token sequence is that of `logits.json`; all arithmetic is in float32 on the CPU with eager attention.
Quantised checkpoints are MLX's own format and are left out.
"""
import json
import platform
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

GOLDEN = Path(__file__).resolve().parents[2] / "tests/golden/models"


def forward(folder, golden):
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    for trouble in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not loading.get(trouble), f"{folder.name}: {trouble} {loading[trouble]}"
    tokens, prompt_length = golden["tokens"], golden["prompt_length"]
    with torch.inference_mode():
        prefill = model(torch.tensor([tokens]), use_cache=False).logits[0]
        step = model(torch.tensor([tokens[:prompt_length]]), use_cache=True)
        decode = [step.logits[0, -1]]
        for token in tokens[prompt_length:]:
            step = model(torch.tensor([[token]]), past_key_values=step.past_key_values, use_cache=True)
            decode.append(step.logits[0, -1])
    return prefill.numpy(), torch.stack(decode).numpy()


def lines(array):
    """One row a line, in the shortest decimals that read back as the same float32."""
    return "[\n    " + ",\n    ".join(json.dumps([float(str(value)) for value in row]) for row in array) + "\n  ]"


def main():
    torch.set_num_threads(1)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__,
                "python": platform.python_version()}
    wanted = sys.argv[1:] or sorted(path.name for path in GOLDEN.iterdir() if (path / "logits.json").exists())
    for name in wanted:
        folder = GOLDEN / name
        if "quantization" in json.loads((folder / "config.json").read_text()):
            continue
        golden = json.loads((folder / "logits.json").read_text())
        prefill, decode = forward(folder, golden)
        gap = max(np.abs(prefill - np.array(golden["prefill"])).max(), np.abs(decode - np.array(golden["decode"])).max())
        print(f"{name:24} largest difference from mlx-lm {gap:.2e}")
        head = {"versions": versions, "dtype": "float32", "tokens": golden["tokens"],
                "prompt_length": golden["prompt_length"]}
        fields = [f'  "{key}": {json.dumps(value)}' for key, value in head.items()]
        fields += [f'  "prefill": {lines(prefill)}', f'  "decode": {lines(decode)}']
        (folder / "transformers.json").write_text("{\n" + ",\n".join(fields) + "\n}\n")


if __name__ == "__main__":
    main()
