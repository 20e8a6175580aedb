"""What jinja2 with transformers' settings makes of small chat templates: `template_corpus.json`.

    python tests/golden/make_template_corpus.py

Each template is of our own wording and does what a public family of templates does. `results` are those of
`render_jinja_template` of transformers for six conversations: the text, the text up to the next reply, and the
character ranges of `{% generation %}` marks; null where the template refuses the conversation.

Needs transformers 5.23.0 or later and jinja2 3.1.6.
"""

import json
from pathlib import Path

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

OUT = Path(__file__).parent / "template_corpus.json"

# What a turn looks like, by the names of what it is like.
FRAMES = {
    "chatml": ("<|im_start|>{role}\n", "<|im_end|>\n", ""),
    "headers": ("<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", "{{ bos_token }}"),
    "turns": ("<start_of_turn>{role}\n", "<end_of_turn>\n", "{{ bos_token }}"),
    "text": ("<|{role}|>\n", "{{ eos_token }}\n", ""),
    "colon": ("{role}: ", "{{ eos_token }}\n", "{{ bos_token }}"),
    "hash": ("### {role}:\n", "\n\n", "{{ bos_token }}"),
}


def framed(frame, content="m['content']", marked=False, once=False, crlf=False, tight=False):
    head, tail, begin = FRAMES[frame]
    left = "{%-" if tight else "{%"
    head = head.replace("\n", "\\n")
    role = "{{ '" + head.replace("{role}", "' + m['role'] + '") + "' }}"
    end = tail.replace("\n", "{{ '\\n' }}")
    if once:
        end = "{{ '\\n' }}"
    reply = "{{ " + content + " }}"
    if marked:
        reply = (
            "{% if m['role'] == 'assistant' %}{% generation %}" + reply + end
            + "{% endgeneration %}{% else %}" + reply + end + "{% endif %}"
        )
        end = ""
    ask = "{{ '" + head.replace("{role}", "assistant") + "' }}"
    text = (
        begin + left + " for m in messages %}\n" + role + reply + end + "\n" + left + " endfor %}\n"
        + "{% if add_generation_prompt %}" + ask
        + ("{% else %}{{ eos_token }}" if once else "") + "{% endif %}\n"
    )
    return text.replace("\n", "\r\n") if crlf else text


TEMPLATES = {}
for frame in FRAMES:
    TEMPLATES[f"{frame}"] = framed(frame)
    TEMPLATES[f"{frame}, trimmed"] = framed(frame, "m['content'] | trim", tight=True)
    TEMPLATES[f"{frame}, marked"] = framed(frame, marked=True)
    TEMPLATES[f"{frame}, end once"] = framed(frame, once=True)
    TEMPLATES[f"{frame}, CRLF"] = framed(frame, crlf=True)
    TEMPLATES[f"{frame}, no thoughts"] = framed(
        frame, "m.content.split('</think>')[-1].lstrip('\\n') if m.role == 'assistant' and not loop.last else m.content"
    )

# One behaviour each, by the line that does it; written once a turn.
LINES = {
    "none is not iterable": "{% if tools is iterable and tools | length > 0 %}T{% endif %}{% if documents is iterable %}D{% endif %}{{ m.content }}",
    "tools defined": "{% if tools is defined and tools %}T{% endif %}{% if not tools %}none{% endif %}{{ m.content }}",
    "tools not none": "{% if tools is not none %}T{% else %}-{% endif %}{{ documents is none }}{{ m.content }}",
    "json": "{{ m | tojson }}",
    "json tight": "{{ m | tojson(separators=(',', ':')) }}",
    "json indented": "{{ m | tojson(indent=2) }}",
    "json sorted": "{{ m | tojson(sort_keys=True, ensure_ascii=True) }}",
    "json of kinds": "{{ [1, 2.5, 1e20, 1e-7, true, none, 'a\\n', {}, []] | tojson }}",
    "previous turn": "{% if loop.previtem is defined and loop.previtem.role == m.role %}same{% endif %}{% if loop.nextitem is defined %}{{ loop.nextitem.role }}{% endif %}{{ m.content }}",
    "loop": "{{ loop.index }}/{{ loop.length }} {{ loop.revindex0 }} {{ loop.cycle('a', 'b') }} {{ loop.first }}{{ loop.last }}{{ m.content }}",
    "loop controls": "{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.content }}{% if loop.index > 3 %}{% break %}{% endif %}",
    "percent of strings": "{{ '%s says %s in %d' % (m.role, m.role, loop.index) }}{{ loop.index0 % 2 }}{{ '<%s>' % m.content | trim }}",
    "format": "{{ '{} {:>4}|{role}'.format(m.role, loop.index, role=m.role) }}{{ '%s-%s' | format(m.role, 1) }}",
    "rsplit": "{{ m.content.rsplit(' ', 1)[-1] }}|{{ m.content.split() | join(',') }}|{{ m.content.split(None, 1) | length }}|{{ m.content.split('a', maxsplit=1) | join('+') }}",
    "partition": "{{ m.content.partition(' ')[2] }}|{{ m.content.rpartition(' ')[0] }}",
    "removeprefix": "{{ m.content.removeprefix('<think>').removesuffix('.') }}",
    "justify": "[{{ m.role.ljust(10) }}{{ m.role.rjust(10, '.') }}{{ m.role.center(11) }}{{ '7'.zfill(3) }}{{ m.role | center(12) }}]",
    "case": "{{ m.content.title() }}|{{ m.content | title }}|{{ m.content.capitalize() }}|{{ m.content.swapcase() }}|{{ m.role | capitalize }}|{{ m.content | upper }}",
    "truncate": "{{ m.content | truncate(9) }}|{{ m.content | truncate(9, true, '', 0) }}|{{ m.content | wordcount }}",
    "numbers": "{{ 'x' | int }} {{ '12' | int + 1 }} {{ ' 7 ' | int }} {{ '1.9' | int }} {{ 'x' | float }} {{ '1e3' | float }} {{ 1e20 }} {{ 1e-7 }} {{ 3 / 2 }} {{ 7 // 2 }} {{ 1e16 }} {{ 0.1 + 0.2 }} {{ [1.5, 1e20] }}",
    "escape": "{{ (m.content ~ \"'\\\"<&>\") | e }}",
    "lists": "{{ [1, 'a', none, true] }} {{ {'a': 1} }} {{ (1, 2) }} {{ messages[::-1][0].role }} {{ messages[1:] | length }} {{ messages | map(attribute='role') | join(' ') }}",
    "select": "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | list }}",
    "tests": "{{ m.content is string }}{{ m is mapping }}{{ messages is sequence }}{{ m.content is sequence }}{{ none is sequence }}{{ 1 is number }}{{ true is boolean }}{{ m.x is defined }}{{ m.content is iterable }}{{ 3 is odd }}",
    "dictionary": "{{ m.get('name', 'nobody') }}{{ m.items() | list | length }}{{ m.keys() | list }}{{ 'content' in m }}{{ m['role'] in ['user', 'system'] }}{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}",
    "undefined": "{{ m.name }}{{ m.name | default('x') }}{{ (m.name or 'y') }}{{ 'z' if m.name is not defined }}{{ missing }}",
    "namespace": "{% set ns = namespace(n=0, s='') %}{% for c in m.content.split(' ') %}{% set ns.n = ns.n + 1 %}{% set ns.s = ns.s ~ c[:1] %}{% endfor %}{{ ns.n }}{{ ns.s }}",
    "macro": "{% macro say(who, text='none') %}{{ who }}>{{ text | trim }};{% endmacro %}{{ say(m.role, m.content) }}{{ say('x') }}",
    "set block": "{% set body %}[{{ m.content }}]{% endset %}{{ body | length }}{{ body | upper }}",
    "filter block": "{% filter upper %}{{ m.content }}{% endfilter %}",
    "call block": "{% macro box() %}<{{ caller() }}>{% endmacro %}{% call box() %}{{ m.content }}{% endcall %}",
    "raw": "{% raw %}{{ not read }}{% generation %}{% endraw %}{{ m.content }}",
    "comment": "{# {% generation %} {{ x #}{{ m.content }}",
    "replace": "{{ m.content | replace('a', 'o') }}{{ m.content.replace('e', 'i', 1) }}{{ m.content.count('a') }}{{ m.content.find('a') }}{{ m.content.startswith(('H', 'W')) }}",
    "strip": "[{{ m.content.strip() }}|{{ m.content.lstrip('\\n ') }}|{{ m.content.rstrip('.') }}|{{ m.content | trim('.') }}]",
    "slices": "{{ m.content[::-1] }}{{ m.content[-3:] }}{{ m.content[:3] }}{{ m.content[0] }}{{ m.content | first }}{{ m.content | last }}",
    "alternate": "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}",
    "no system": "{% if m.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}{{ m.content }}",
    "fixed date": "{% if strftime_now is string %}x{% endif %}{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}{{ date_string }}{{ m.content }}",
    "conditions": "{{ 'a' if m.role == 'user' else 'b' if m.role == 'system' else 'c' }}{{ not m.x and (m.role == 'user' or loop.last) }}{{ 1 < loop.index <= 3 }}",
    "marks trimmed": "  {%- if m.role == 'assistant' %}\n  {%- generation -%}\n  {{ m.content }}\n  {%- endgeneration -%}\n  {%- else %}{{ m.content }}{% endif %}",
    "marks scoped": "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{{ m.content }}{% endgeneration %}{{ x }}",
}
for name, line in LINES.items():
    TEMPLATES[name] = (
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: " + line + "{{ eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
REFUSED = {
    "date": ("{{ strftime_now('%d %b %Y') }}" + framed("colon"), "`model.chat-template`"),
    "date in a macro": (
        "{% macro head() %}{{ strftime_now('%Y') }}{% endmacro %}{{ head() }}" + framed("colon"),
        "`model.chat-template`",
    ),
}


def turns(*texts, system=None):
    talk = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * len(texts), texts)]
    return ([{"role": "system", "content": system}] if system else []) + talk


TALKS = [
    turns("Hi there", "Hello."),
    turns("  Why?\n", "\n So it is. ", "Zürich 東京 🦁", "Well, yes."),
    turns("One", "<think>\na thought\n</think>\n\nTwo", "Three", "<think>\nagain\n</think>\n\nFour"),
    turns("What's <b>\"this\"</b> & that?", "It's a {{ tag }}: {% x %} #}", system=" Be kind. "),
    turns("line\r\nbreaks\ttabs", "A mark </s> in the text", "again", "and <|im_end|> here"),
    turns("a", "b", "c", "d", "e", "A longer answer, of some words.", system="Short."),
]


def result(template, talk):
    out = {}
    for key, messages, ask in [("text", talk, False), ("asked", talk[:-1], True)]:
        try:
            text, marks = render_jinja_template(
                conversations=[messages],
                chat_template=template,
                return_assistant_tokens_mask="{% generation" in template or "{%- generation" in template,
                add_generation_prompt=ask,
                bos_token="<s>",
                eos_token="</s>",
            )
            out[key] = text[0]
            if marks and not ask:
                out["marks"] = marks[0]
        except Exception:
            out[key] = None
    return out


if __name__ == "__main__":
    cases = [
        {"name": name, "template": template, "results": [result(template, talk) for talk in TALKS]}
        for name, template in TEMPLATES.items()
    ]
    for name, (template, reason) in REFUSED.items():
        cases.append({"name": name, "template": template, "refused": reason, "results": [{} for _ in TALKS]})
    golden = {
        "made_with": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "conversations": TALKS,
        "cases": cases,
    }
    text = json.dumps(golden, ensure_ascii=False, separators=(",", ":")).replace('{"name":', '\n{"name":')
    OUT.write_text(text + "\n", encoding="utf-8")
    print(len(cases), "templates", sum(r.get("text") is not None for c in cases for r in c["results"]), "texts")
