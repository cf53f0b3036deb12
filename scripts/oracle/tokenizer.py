#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/: token ids of more than 500 texts, by tokenizers other than ours.

    scripts/fetch-model
    python3 -m venv VENV && VENV/bin/pip install -r scripts/oracle/requirements-tokenizer.txt
    npm pack @node-llama-cpp/linux-x64@3.22.1 && tar xzf node-llama-cpp-linux-x64-3.22.1.tgz
    VENV/bin/python scripts/oracle/tokenizer.py package/bins/linux-x64

  texts.json            the texts
  smollm2.json          SmolLM2: the file's pieces and merges in the `tokenizers` library, with the steps of the published
                        tokenizer.json; checked text by text against llama.cpp reading the same file
  FAMILY/               small tokenizers built as the families' published ones are, and their ids by transformers
  gguf.json             small vocabularies as GGUF metadata, and their ids by llama.cpp and the `tokenizers` library

Where llama.cpp differs, the index of the text is noted: it does not compose characters (NFC) as Qwen's tokenizer does.
The `tokenizers` library of Python matches regular expressions with Oniguruma, ours with fancy-regex.
"""
import ctypes
import json
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import gguf
import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.integrations.gguf.gguf_tokenizer_mapping import _LLAMA3_SPLIT, _TEKKEN_SPLIT
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX as QWEN2_SPLIT

from texts import texts

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/tokenizer"
SMOLLM2 = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
VERSIONS = {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__,
            "gguf": version("gguf"), "node-llama-cpp": "3.22.1"}
FAMILIES = ["qwen", "llama3", "mistral-nemo", "llama2", "mistral"]
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
TEXTS = texts()


def write(path, content):
    """One entry of the outermost lists a line, so that a change shows what it changes."""
    def dump(value):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    fields = []
    for key, value in content.items():
        rows = isinstance(value, list) and ",\n".join(map(dump, value))
        fields.append(f"{dump(key)}:[\n{rows}\n]" if rows else f"{dump(key)}:{dump(value)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{" + ",\n".join(fields) + "}\n", encoding="utf-8")


class ModelParameters(ctypes.Structure):
    """llama.cpp's llama_model_params, of which only vocab_only matters here."""
    _fields_ = [("devices", ctypes.c_void_p * 2), ("numbers", ctypes.c_int32 * 5), ("pointers", ctypes.c_void_p * 4),
                ("vocab_only", ctypes.c_bool), ("flags", ctypes.c_bool * 5)]


class LlamaCpp:
    """llama.cpp's tokenizer of a GGUF file, read without its tensors."""
    library = None

    @classmethod
    def open(cls, folder):
        for name in ("libggml-base.so", "libggml.v0.5.0.so"):
            ctypes.CDLL(folder / name, mode=ctypes.RTLD_GLOBAL)
        cls.library = ctypes.CDLL(folder / "libllama.v0.5.0.so")
        cls.library.llama_model_default_params.restype = ModelParameters
        cls.library.llama_model_load_from_file.argtypes = [ctypes.c_char_p, ModelParameters]
        cls.library.llama_model_load_from_file.restype = ctypes.c_void_p
        cls.library.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
        cls.library.llama_model_get_vocab.restype = ctypes.c_void_p
        cls.library.llama_tokenize.argtypes = [
            ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]
        cls.library.llama_log_set(SILENT, None)

    def __init__(self, path):
        parameters = self.library.llama_model_default_params()
        assert list(parameters.flags) == [False, True, False, False, False], "another layout of llama_model_params"
        parameters.vocab_only = True
        model = self.library.llama_model_load_from_file(str(path).encode(), parameters)
        assert model, path
        self.vocabulary = self.library.llama_model_get_vocab(model)

    def ids(self, text, add_special=False):
        data = text.encode()
        tokens = (ctypes.c_int32 * (len(data) + 16))()
        count = self.library.llama_tokenize(self.vocabulary, data, len(data), tokens, len(tokens), add_special, True)
        assert count >= 0
        return list(tokens[:count])


SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)


def byte_level(vocabulary, merges, split, normalizer=None, ignore_merges=False):
    """A byte-level BPE tokenizer; `split` is a regular expression, or the steps before the bytes."""
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignore_merges))
    if isinstance(split, str):
        steps = [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    else:
        steps = [*split, pre_tokenizers.ByteLevel(False, use_regex=True)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    return tokenizer


def add_tokens(tokenizer, tokens, types):
    for token, kind in zip(tokens, types):
        if kind in (CONTROL, UNKNOWN, USER_DEFINED):
            tokenizer.add_tokens([AddedToken(token, special=kind != USER_DEFINED, normalized=False)])


DIGITS = [pre_tokenizers.Digits(individual_digits=True)]


def smollm2():
    fields = gguf.GGUFReader(SMOLLM2).fields
    tokens, types = fields["tokenizer.ggml.tokens"].contents(), fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = byte_level({token: id for id, token in enumerate(tokens)}, merges, DIGITS)
    add_tokens(tokenizer, tokens, types)
    peer = LlamaCpp(SMOLLM2)
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    differ = [i for i, text in enumerate(TEXTS) if peer.ids(text) != ids[i]]
    print(f"smollm2: {len(differ)} of {len(ids)} texts differ between tokenizers and llama.cpp", differ[:10])
    write(GOLDEN / "smollm2.json", {"made_with": VERSIONS, "every": 1, "llama_cpp_differs": differ, "ids": ids,
                                    "decoded": decoded(tokenizer, ids)})


def decoded(tokenizer, ids, texts=TEXTS):
    """[index, text, text without special tokens] where decoding does not give the text back."""
    rows = []
    for i, row in enumerate(ids):
        whole, skipped = tokenizer.decode(row, skip_special_tokens=False), tokenizer.decode(row)
        if (whole, skipped) != (texts[i], texts[i]):
            rows.append([i, whole, skipped])
    return rows


def train(normalizer, pre_tokenizer, alphabet, size, first=()):
    """Merges that pay no heed to words, so that where a family cuts a text shows in its ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, limit_alphabet=len(alphabet), max_token_length=5,
                                  special_tokens=list(first), show_progress=False)
    tokenizer.train_from_iterator(TEXTS + [" ".join(TEXTS[i:i + 3]) for i in range(120)], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def byte_level_vocabulary():
    """The pieces at the end can be reached by no merge, only where a whole word is looked up first."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary, merges = train(None, pre_tokenizers.ByteLevel(False, use_regex=False), alphabet, 600)
    whole = ["Ġbrown", "Ġdog", "Dear"]
    return {**vocabulary, **{piece: len(vocabulary) + i for i, piece in enumerate(whole)}}, merges


def sentence_piece_vocabulary():
    """Special tokens, the 256 bytes, the merged pieces in the order of their scores, and single characters last."""
    spaces = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    alphabet = sorted(set("▁" + "".join(map(chr, range(33, 127))) + "éüßñабвгдежзийклмнопрстуфхцчшщыьэюя中文日本語"))
    vocabulary, merges = train(spaces, None, alphabet, 420)
    singles = [piece for piece in vocabulary if len(piece) == 1]
    pieces = list(dict.fromkeys(["".join(merge) for merge in merges]))
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + pieces + singles
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * (len(pieces) + len(singles))
    scores = [0.0] * 259 + [float(-i) for i in range(len(pieces) + len(singles))]
    ids = {token: id for id, token in enumerate(tokens)}
    # As in published files: each way to cut a piece in two is a merge of that piece's rank, in the order of ids.
    merges = []
    for piece in pieces:
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in ids and piece[i:] in ids]
        merges += sorted(cuts, key=lambda cut: (ids[cut[0]], ids[cut[1]]))
    return tokens, types, scores, merges


def sentence_piece(tokens, types, merges, metaspace):
    tokenizer = Tokenizer(models.BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=merges,
                                     unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    add_tokens(tokenizer, tokens, types)
    return tokenizer


def with_bos(tokenizer, bos):
    template = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))])
    tokenizer.post_processor = template
    return tokenizer


def family(name, tokenizer, config, every=1):
    """Saves the tokenizer as a checkpoint has it, and the ids that transformers reads off it for every n-th text."""
    folder = GOLDEN / name
    folder.mkdir(parents=True)
    compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(compact + "\n", encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    loaded = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    texts = TEXTS[::every]
    ids = [loaded.encode(text, add_special_tokens=False) for text in texts]
    framed = [loaded.encode(text) for text in texts[:20]]
    write(folder / "ids.json", {"made_with": VERSIONS, "every": every, "ids": ids, "framed": framed,
                                "decoded": decoded(loaded.backend_tokenizer, ids, texts)})
    print(f"{name}: {tokenizer.get_vocab_size()} pieces, {sum(map(len, ids))} tokens")


def families():
    vocabulary, merges = byte_level_vocabulary()
    chatml = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

    qwen = byte_level(vocabulary, merges, QWEN2_SPLIT, normalizers.NFC())
    qwen.add_special_tokens([AddedToken(token, normalized=False) for token in chatml])
    qwen.add_tokens([AddedToken(token, normalized=False) for token in ("<think>", "</think>", "<tool_call>", "</tool_call>")])
    qwen.post_processor = processors.ByteLevel(trim_offsets=False)
    family("qwen", qwen, {"add_bos_token": False, "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})

    llama3 = byte_level(vocabulary, merges, _LLAMA3_SPLIT, ignore_merges=True)
    names = ["begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id"]
    llama3.add_special_tokens([AddedToken(f"<|{name}|>", normalized=False) for name in names])
    family("llama3", with_bos(llama3, "<|begin_of_text|>"), {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"})

    nemo = byte_level(vocabulary, merges, _TEKKEN_SPLIT, ignore_merges=True)
    nemo.add_special_tokens([AddedToken(token, normalized=False) for token in ("<unk>", "<s>", "</s>", "[INST]", "[/INST]")])
    family("mistral-nemo", with_bos(nemo, "<s>"), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})

    tokens, types, _, merges = sentence_piece_vocabulary()
    ends = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    family("llama2", with_bos(sentence_piece(tokens, types, merges, False), "<s>"), ends, every=3)
    # Its tokenizer.json frames nothing, which its configuration contradicts.
    family("mistral", sentence_piece(tokens, types, merges, True), {**ends, "add_bos_token": True, "add_eos_token": True},
           every=3)


def gguf_file(path, model, pre, tokens, types, merges=None, scores=None):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if merges:
        writer.add_token_merges([" ".join(merge) for merge in merges])
    if scores:
        writer.add_token_scores(scores)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_vocab_size(len(tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def gguf_metadata():
    vocabulary, merges = byte_level_vocabulary()
    # Where a byte-level vocabulary has them, special tokens come before or after the others.
    tokens = ["<unk>", "<s>", "</s>"] + sorted(vocabulary, key=vocabulary.get) + ["<think>", "[PAD1]"]
    types = [CONTROL] * 3 + [NORMAL] * len(vocabulary) + [USER_DEFINED, UNUSED]
    ids = {token: id for id, token in enumerate(tokens[:-1])}
    pieces, kinds, scores, spm_merges = sentence_piece_vocabulary()
    cases = {
        "gpt-2": byte_level(ids, merges, []), "smollm": byte_level(ids, merges, DIGITS),
        "qwen2": byte_level(ids, merges, QWEN2_SPLIT, normalizers.NFC()),
        "llama-bpe": byte_level(ids, merges, _LLAMA3_SPLIT, ignore_merges=True),
        "tekken": byte_level(ids, merges, _TEKKEN_SPLIT, ignore_merges=True),
        "default": sentence_piece(pieces, kinds, spm_merges, False),
        # llama.cpp's rules for byte-level files that do not name any: one after the other, each within the pieces of
        # those before. Its own ids are the golden; there is no published tokenizer.json to compare with.
        "gpt2-default": None,
    }
    texts = TEXTS[::4]
    content = {"made_with": VERSIONS, "every": 4, "byte_level": {"tokens": tokens, "types": types, "merges": [" ".join(m) for m in merges]},
               "sentence_piece": {"tokens": pieces, "types": kinds, "scores": scores}}
    for pre, tokenizer in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "vocabulary.gguf"
            if pre == "default":
                gguf_file(path, "llama", pre, pieces, kinds, scores=scores)
            elif tokenizer is None:
                gguf_file(path, "gpt2", "default", tokens, types, merges=merges)
            else:
                add_tokens(tokenizer, tokens, types)
                gguf_file(path, "gpt2", pre, tokens, types, merges=merges)
            peer = LlamaCpp(path)
        rows = [tokenizer.encode(text, add_special_tokens=False).ids if tokenizer else peer.ids(text) for text in texts]
        differ = [i for i, text in enumerate(texts) if peer.ids(text) != rows[i]]
        begins_with_bos = peer.ids("x", add_special=True)[0] == 1
        print(f"gguf {pre}: {len(differ)} texts differ between tokenizers and llama.cpp {[texts[i] for i in differ[:3]]}")
        content[pre] = rows
        content[f"{pre}_llama_cpp_differs"] = differ
        content[f"{pre}_begins_with_bos"] = begins_with_bos
    write(GOLDEN / "gguf.json", content)


def main():
    LlamaCpp.open(Path(sys.argv[1]))
    for name in FAMILIES:
        shutil.rmtree(GOLDEN / name, ignore_errors=True)
    write(GOLDEN / "texts.json", {"texts": TEXTS})
    smollm2()
    families()
    gguf_metadata()


if __name__ == "__main__":
    main()
