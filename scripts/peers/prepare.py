"""The files that scripts/bench-peers gives to both sides, made once and kept in .venv/peers/.

From the GGUF: a float32 checkpoint folder (the target of both sides), for mlx-lm the two drafters as checkpoints of
their own (the first two layers; the 4-bit copy, as mlx-lm quantises it), for llama.cpp a float32 GGUF, and the prompts
as rendered text with their token ids.

    prepare.py GGUF PROMPTS [llama.cpp]     prints the prompts as JSON
"""
import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".venv/peers"
TARGET = CACHE / "SmolLM2-135M-Instruct-float32"
LLAMA_CPP = CACHE / "SmolLM2-135M-Instruct.F32.gguf"
# ridgepoint's drafter file: the same drafter as a checkpoint for mlx-lm
DRAFTERS = {"layer-skip-2": CACHE / "layer-skip-2", "self-4bit": CACHE / "self-4bit"}
PROMPTS = ROOT / "scenarios/prompts/quickstart.jsonl"

sys.path.insert(0, str(ROOT / "scripts/oracle"))


def whole(path, write):
    """Makes `path` by `write`, under another name until it is complete."""
    if path.exists():
        return
    print(f"bench-peers: making {path.relative_to(ROOT)}", file=sys.stderr)
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(partial)
    partial.rename(path)


def checkpoints(gguf_path):
    from smollm2 import write_checkpoint

    whole(TARGET, lambda folder: write_checkpoint(gguf_path, folder))
    whole(DRAFTERS["layer-skip-2"], lambda folder: write_checkpoint(gguf_path, folder, layers=2))
    whole(DRAFTERS["self-4bit"], quantise)


def quantise(folder):
    from mlx_lm.convert import convert

    convert(str(TARGET), str(folder), quantize=True, q_bits=4, q_group_size=64)


def float32_gguf(gguf_path):
    whole(LLAMA_CPP, lambda path: write_float32_gguf(gguf_path, path))


def write_float32_gguf(source, path):
    """The same file with every tensor in float32, all metadata kept."""
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.get_field("general.architecture").contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        item = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=item)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def prompts(count):
    """`count` prompts, evenly spread over the prompt file: name, the rendered text's file, token ids."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TARGET)
    lines = [json.loads(line) for line in PROMPTS.read_text().splitlines() if line.strip()]
    chosen = [lines[i * len(lines) // count] for i in range(count)]
    folder = CACHE / "prompts"
    folder.mkdir(exist_ok=True)
    out = []
    for prompt in chosen:
        text = prompt["text"] if "text" in prompt else tokenizer.apply_chat_template(
            prompt["messages"], add_generation_prompt=True, tokenize=False)
        file = folder / f"{prompt['id']}.txt"
        file.write_text(text)
        ids = tokenizer.encode(text, add_special_tokens=False)
        out.append({"name": prompt["id"], "file": str(file), "tokens": len(ids), "line": prompt})
    return out


if __name__ == "__main__":
    gguf_path, count, *others = sys.argv[1:]
    stdout, sys.stdout = sys.stdout, sys.stderr  # libraries print what they do
    checkpoints(gguf_path)
    if "llama.cpp" in others:
        float32_gguf(gguf_path)
    json.dump(prompts(int(count)), stdout)
