#!/usr/bin/env python3
"""Writes tests/golden/prompt_lookup.json: what transformers' PromptLookupCandidateGenerator proposes for random texts.

    scripts/oracle/setup && .venv/bin/python scripts/oracle/prompt_lookup.py

torch is not needed: the class is taken out of the installed source and runs over a numpy array that has the few tensor
methods it calls. `proposed` is transformers' answer: after the FIRST occurrence of the longest n-gram, up to the end of
the text. `occurrences` counts the earlier occurrences of that n-gram: where it is 1, first and most recent are the
same. `most_recent` is the same class run on the text with all earlier occurrences but the most recent cut away, so it
is transformers' answer for the occurrence that ridgepoint takes.
"""
import ast
import importlib.util
import json
import types
from importlib.metadata import version
from pathlib import Path
from typing import Optional

import numpy as np

GOLDEN = Path(__file__).resolve().parents[2] / "tests/golden/prompt_lookup.json"
MAX_NGRAMS, TOKENS, TEXTS = [1, 2, 3, 5], 6, 40


class Tensor(np.ndarray):
    """The tensor methods that the generator calls, with torch's meaning."""

    def unfold(self, dimension, size, step):
        assert step == 1
        return np.lib.stride_tricks.sliding_window_view(np.asarray(self), size, axis=dimension).view(Tensor)

    def all(self, dim):
        return np.asarray(self).all(axis=dim).view(Tensor)

    def nonzero(self, as_tuple):
        assert as_tuple
        return np.asarray(self).nonzero()

    def unsqueeze(self, dim):
        return np.expand_dims(self, dim)


def generator_class():
    root = Path(importlib.util.find_spec("transformers").origin).parent
    tree = ast.parse((root / "generation/candidate_generator.py").read_text())
    wanted = {"CandidateGenerator", "PromptLookupCandidateGenerator"}
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name in wanted]
    torch = types.SimpleNamespace(Tensor=Tensor, LongTensor=Tensor, FloatTensor=Tensor,
                                  cat=lambda arrays, dim: np.concatenate(arrays, axis=dim).view(Tensor))
    names = {"torch": torch, "Optional": Optional}
    exec(compile(tree, "candidate_generator.py", "exec"), names)
    return names["PromptLookupCandidateGenerator"]


def propose(generator, text):
    ids = np.array([text]).view(Tensor)
    candidates, _ = generator.get_candidates(ids)
    return candidates[0, len(text):].tolist()


def earlier(text, size):
    return [at for at in range(len(text) - size) if text[at:at + size] == text[-size:]]


def main():
    random = np.random.default_rng(7)
    generator_type = generator_class()
    cases = []
    for index in range(TEXTS):
        text = random.integers(0, [3, 6, 20][index % 3], size=random.integers(1, 60)).tolist()
        for max_ngram in MAX_NGRAMS:
            generator = generator_type(num_output_tokens=TOKENS, max_matching_ngram_size=max_ngram, max_length=10**6)
            proposed = propose(generator, text)
            size = next((n for n in range(min(max_ngram, len(text) - 1), 0, -1) if earlier(text, n)), None)
            occurrences = earlier(text, size) if size else []
            most_recent = propose(generator, text[occurrences[-1]:]) if occurrences else []
            cases.append({"text": text, "max_ngram": max_ngram, "occurrences": len(occurrences),
                          "proposed": proposed, "most_recent": most_recent})
    versions = {package: version(package) for package in ["transformers", "numpy"]}
    lines = ",\n".join(json.dumps(case) for case in cases)
    head = json.dumps({"versions": versions, "max_tokens": TOKENS})[:-1]
    GOLDEN.write_text(f'{head}, "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
