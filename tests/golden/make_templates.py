"""What transformers makes of chat templates: `templates.json`, and Parquet files as pyarrow writes them.

    python tests/golden/make_templates.py

`rendered`: small templates in the manner of well-known models, each with the text that transformers
renders and, where the template marks replies, the character ranges of the marks.
`encoded`: rows of the shipped data and made-up conversations through the shipped model's own template:
token ids and assistant mask of `apply_chat_template`.

Needs transformers 5.23.0 and pyarrow 26.0.1.
"""

import json

from common import GOLDEN, MODEL, ROOT, versions

CHATML = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{#- The system message comes first. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"
)
REASONING = """{%- set ns = namespace(last=-1) %}
{%- for message in messages[::-1] %}
    {%- if message.role == "user" and ns.last < 0 %}
        {%- set ns.last = messages|length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
MARKED = """{{ bos_token }}
{% for message in messages %}
  {% if message.role == 'assistant' %}
    {% generation %}
    {{ message.content | trim }} {{ eos_token }}
    {% endgeneration %}
after
  {%- else %}
    {{ message | tojson }}
    {{ message.items() | list | length }} {{ message.content.title() }} {{ message.get('name', 'none') }}
  {% endif %}
  {%- if not loop.last %} + {% endif %}
{% endfor %}
{% if add_generation_prompt %}ask {% endif %}

"""
TIGHT = (
    "{%- for message in messages -%}{%- if message.role == 'assistant' -%}  [{%- generation -%}  {{ message.content }}"
    "{{ eos_token }}  {%- endgeneration -%}  ]  {%- else -%} ({{ message.content }}) {%- endif -%}{%- endfor -%}"
)
TEMPLATES = {"chatml": CHATML, "llama": LLAMA, "gemma": GEMMA, "reasoning": REASONING, "marked": MARKED, "tight": TIGHT}


def turns(*texts, system=None):
    roles = ["user", "assistant"] * len(texts)
    talk = [{"role": role, "content": text} for role, text in zip(roles, texts)]
    return ([{"role": "system", "content": system}] if system else []) + talk


TALKS = [
    turns("Hi <there> & 'you'", "Oh \"no\"."),
    turns("  Why?\n", "\n So it is. ", "Zürich 東京 🦁", "<think>\nwell\n</think>\n\nYes."),
    turns("Hi", "Oh.", "And?", "So.", system=" Be kind. "),
]


def rendered():
    from transformers.utils.chat_template_utils import render_jinja_template

    cases = []
    for name, template in TEMPLATES.items():
        for talk in TALKS:
            for messages, ask in [(talk, False), (talk[:-1], True)]:
                case = {"name": name, "messages": messages, "ask": ask}
                try:
                    text, marks = render_jinja_template(
                        conversations=[messages],
                        chat_template=template,
                        return_assistant_tokens_mask="generation" in template,
                        add_generation_prompt=ask,
                        bos_token="<s>",
                        eos_token="</s>",
                    )
                    case["text"] = text[0]
                    if marks:
                        case["spans"] = marks[0]
                except Exception as error:
                    case["error"] = str(error)
                cases.append(case)
    return cases


def encoded():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    talks = list(TALKS)
    for path in ["data/sft/stories_test.jsonl", "data/sft/instruct_test.jsonl"]:
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        talks += [json.loads(line)["messages"] for line in lines[:40:4]]
    cases = []
    for messages in talks:
        out = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        ask = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=True)
        cases.append({
            "messages": messages,
            "ids": out["input_ids"],
            "mask": out["assistant_masks"],
            "prompt_ids": ask["input_ids"],
        })
    return cases


def parquet_files():
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = ROOT / "tests" / "fixtures"
    folder.mkdir(exist_ok=True)
    chat = pa.table({
        "messages": [turns("Hi", "Oh."), turns("a", "b", "c", "Zürich")],
        "prompt_id": ["p1", "p2"],
        "score": [0.5, None],
    })
    pq.write_table(chat, folder / "chat.parquet", compression="snappy")
    pairs = pa.table({
        "prompt": ["Hi", "Why?"],
        "chosen": [turns("Hi", "Hello."), turns("Why?", "So.")],
        "rejected": [turns("Hi", "Go."), turns("Why?", "No.")],
        "score_chosen": [8.0, 7.5],
    })
    pq.write_table(pairs, folder / "pairs.parquet", compression="zstd")
    plain = pa.table({"prompt": ["Hi", "Why?"], "completion": ["Oh.", "So."]})
    pq.write_table(plain, folder / "lz4.parquet", compression="lz4")
    # Bytes of another encoding, in a column that is read and in one that is not.
    latin = {"prompt": ["Hi"], "completion": ["Oh."], "image": [b"\xff\xd8"]}
    pq.write_table(pa.table(latin), folder / "image.parquet")
    pq.write_table(pa.table({**latin, "completion": ["Zürich".encode("latin-1")]}), folder / "latin.parquet")


if __name__ == "__main__":
    parquet_files()
    golden = {
        "made_with": versions("pyarrow", "jinja2"),
        "templates": TEMPLATES,
        "rendered": rendered(),
        "encoded": encoded(),
    }
    text = json.dumps(golden, ensure_ascii=False, indent=None, separators=(",", ":"))
    text = text.replace('{"name":', '\n{"name":').replace('{"messages":', '\n{"messages":')
    (GOLDEN / "templates.json").write_text(text + "\n", encoding="utf-8")
