"""What transformers makes of small chat templates: `template_corpus.json`.

    python tests/golden/make_template_corpus.py

Each template is of our own wording and does what a public family of templates does. For six conversations
`results` hold, or null where the template refuses the conversation:

- `text`, and `asked`, the text up to the last reply, of `render_jinja_template`: a number if it is the
  beginning of `text`;
- `marks`, the character ranges of `{% generation %}` as transformers finds them;
- `spans`, the character ranges of the replies with their end tokens. They come from a twin of the template,
  which writes a noncharacter where a reply begins and another one where it ends;
- `tokens` and `targets`, the ids and the ranges of ids that are targets. Ids are those of
  `apply_chat_template` with the shipped tokenizer and the tokens in `added`, and `mask` says whether the
  targets are its `assistant_masks`. Where one of its tokens would lie across the edge of a span, the text is
  cut there first (`cut`).

`refused` are those of which no targets can be had, with what the message says.

Needs transformers 5.23.0 and jinja2 3.1.6.
"""

import json
import re
from pathlib import Path

import jinja2
import tokenizers
import transformers
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

ROOT = Path(__file__).resolve().parents[2]
OUT = Path(__file__).parent / "template_corpus.json"

# Where a reply begins and ends, in the twin of a template.
OPEN, CLOSE = "\ufdd4", "\ufdd5"


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

# What a turn looks like: its head, the token that ends it, what follows, what the conversation begins with,
# and which of these are tokens.
FRAMES = {
    "chatml": ("<|im_start|>{role}\n", "<|im_end|>", "\n", "", ["<|im_start|>", "<|im_end|>"]),
    "headers": (
        "<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", "", "{{ bos_token }}",
        ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    ),
    "turns": ("<start_of_turn>{role}\n", "<end_of_turn>", "\n", "{{ bos_token }}", ["<start_of_turn>", "<end_of_turn>"]),
    "text": ("<|{role}|>\n", "{{ eos_token }}", "\n", "", []),
    "colon": ("{role}: ", "{{ eos_token }}", "\n", "{{ bos_token }}", []),
    "hash": ("### {role}:\n", "", "\n\n", "{{ bos_token }}", []),
}


def framed(frame, content="m['content']", marks="", once=False, crlf=False, tight=False):
    """A template of this frame, and whether its twin's signs are in it: they are taken out for the template.

    `marks` says what `{% generation %}` is around: the `reply` with its end, that and `more`, or the `content`.
    """
    head, end, after, begin, _ = FRAMES[frame]
    left = "{%-" if tight else "{%"
    quoted = head.replace("\n", "\\n")
    role = "{{ '" + quoted.replace("{role}", "' + m['role'] + '") + "' }}"
    line = "{{ '" + after.replace("\n", "\\n") + "' }}" if after else ""
    sign = lambda sign, condition="": "{{ '" + sign + "' if m['role'] == 'assistant'" + condition + " else '' }}"
    reply = "{{ " + content + " }}"
    closing = ""
    if once:
        # Both line breaks are behind every reply, the end behind the last one.
        turn, closing = sign(OPEN) + reply + "{{ '\\n' }}", sign(CLOSE, " and not loop.last")
    elif marks:
        inside = {
            "reply": OPEN + reply + end + CLOSE + "{% endgeneration %}" + line,
            "more": OPEN + reply + end + line + CLOSE + "{% endgeneration %}",
            "content": OPEN + reply + "{% endgeneration %}" + end + CLOSE + line,
        }[marks]
        others = "{% else %}" + reply + end + line + "{% endif %}"
        turn = "{% if m['role'] == 'assistant' %}{% generation %}" + inside + others
    else:
        turn = sign(OPEN) + reply + end + sign(CLOSE) + line
    ask = "{{ '" + quoted.replace("{role}", "assistant") + "' }}"
    text = (
        begin + left + " for m in messages %}\n" + role + turn + "\n" + closing + left + " endfor %}\n"
        + "{% if add_generation_prompt %}" + ask
        + ("{% else %}{{ eos_token }}" + CLOSE if once else "") + "{% endif %}\n"
    )
    return text.replace("\n", "\r\n") if crlf else text


# By name: the template with the twin's signs, and the tokens that it needs.
TEMPLATES = {}
NO_THOUGHTS = "m.content.split('</think>')[-1].lstrip('\\n') if m.role == 'assistant' and not loop.last else m.content"
for frame, (*_, added) in FRAMES.items():
    for kind, options in {
        "": {},
        ", trimmed": {"content": "m['content'] | trim", "tight": True},
        ", marked": {"marks": "reply"},
        ", marked with more": {"marks": "more"},
        ", marked content": {"marks": "content"},
        ", end once": {"once": True},
        ", CRLF": {"crlf": True},
        ", no thoughts": {"content": NO_THOUGHTS},
    }.items():
        TEMPLATES[frame + kind] = (framed(frame, **options), added)

# One behaviour each, by the line that does it; written once a turn.
LINES = {
    "none is not iterable": "{% if tools is iterable and tools | length > 0 %}T{% endif %}{% if documents is iterable %}D{% endif %}{{ m.content }}",
    "tools defined": "{% if tools is defined and tools %}T{% endif %}{% if not tools %}none{% endif %}{{ m.content }}",
    "tools not none": "{% if tools is not none %}T{% else %}-{% endif %}{{ documents is none }}{{ m.content }}",
    "json": "{{ m | tojson }}",
    "json tight": "{{ m | tojson(separators=(',', ':')) }}",
    "json indented": "{{ m | tojson(indent=2) }}{{ [[], [1, [2]], {}] | tojson(indent=0) }}{{ [1] | tojson(indent='\\t', separators=(';', '=')) }}",
    "json sorted": "{{ m | tojson(sort_keys=True, ensure_ascii=True) }}",
    "json of kinds": "{{ [1, 2.5, 1e20, 1e-7, true, none, 'a\\n', {}, [], (1, 2)] | tojson }}{{ {1: 2, none: 3, 1.5: 4} | tojson }}",
    "previous turn": "{% if loop.previtem is defined and loop.previtem.role == m.role %}same{% endif %}{% if loop.nextitem is defined %}{{ loop.nextitem.role }}{% endif %}{{ m.content }}",
    "loop": "{{ loop.index }}/{{ loop.length }} {{ loop.revindex0 }} {{ loop.cycle('a', 'b') }} {{ loop.first }}{{ loop.last }}{{ m.content }}",
    "loop changed": "{{ loop.changed(m.role == 'system') }}{{ loop.depth }}{{ loop.depth0 }}{{ m.content }}",
    "loop controls": "{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.content }}{% if loop.index > 3 %}{% break %}{% endif %}",
    "loop filtered": "{% for c in ['a', 'b', 'c'] if c != 'b' %}{{ loop.index }}{{ c }}{{ loop.last }}{{ loop.length }}{% else %}none{% endfor %}{% for c in [] %}x{% else %}empty{% endfor %}{{ m.content }}",
    "loop in loop": "{% set outer = loop %}{% for c in m.content.split() %}{{ outer.index }}.{{ loop.index }}{{ c }}{% if not loop.last %},{% endif %}{% endfor %}",
    "loop recursive": "{% for x in [[1, [2, 3]], 4] recursive %}{% if x is number %}{{ x }}{% else %}({{ loop(x) }}){% endif %}{% endfor %}{{ m.content }}",
    "percent of strings": "{{ '%s says %s in %d' % (m.role, m.role, loop.index) }}{{ loop.index0 % 2 }}{{ '<%s>' % m.content | trim }}",
    "percent of kinds": "{{ '%r|%s|%r|%r' % (m.content, [m.content, none], 1.5, {'a': (1,)}) }}{{ '%5s|%-6s|%.2s|%5.1f|%05d|%+d|%x|%#o|%e|%g' % ('ü', 'é', m.content, 2.25, 42, 3, 255, 8, 1234.5, 1e20) }}{{ '%d %i%%' % (3.9, true) }}",
    "percent by name": "{{ '%(role)s: %(content)s' % m }}{{ '%(a)s-%(b)03d' | format(a=m.role, b=7) }}{{ 'none' % [] }}",
    "percent of numbers": "{% set a = loop.index * 7 %}{% set b = 3 %}{{ a % b }} {{ -a % b }} {{ a * 2 % b }} {{ a % 2 * b }} {{ 7.5 % 2 }}{{ m.content }}",
    "format": "{{ '{} {:>4}|{role}'.format(m.role, loop.index, role=m.role) }}{{ '%s-%s' | format(m.role, 1) }}",
    "format of kinds": "{{ '{0!r} {0!s:>30.5} {1:,} {1:05} {2:.2f} {3} {3!r}'.format(m.content, 1234567, 3.14159, none) }}{{ '{:^5}|{:*^6}|{:<05}|{:05}'.format('ü', 'é', 'ab', true) }}{{ '{{{}}}'.format(m.role) }}{{ '{0[0]}{1[k]}'.format([1], {'k': 2}) }}",
    "rsplit": "{{ m.content.rsplit(' ', 1)[-1] }}|{{ m.content.split() | join(',') }}|{{ m.content.split(None, 1) | length }}|{{ m.content.split('a', maxsplit=1) | join('+') }}",
    "partition": "{{ m.content.partition(' ')[2] }}|{{ m.content.rpartition(' ')[0] }}",
    "lines": "{{ m.content.splitlines() }}{{ 'a\\x0bb\\x1cc\\u2028d\\r\\n'.splitlines() | join('|') }}{{ m.content.splitlines(true) | length }}{{ m.content.splitlines(keepends=true) | first }}",
    "removeprefix": "{{ m.content.removeprefix('<think>').removesuffix('.') }}",
    "justify": "[{{ m.role.ljust(10) }}{{ m.role.rjust(10, '.') }}{{ m.role.center(11) }}{{ '7'.zfill(3) }}{{ '-7'.zfill(4) }}{{ m.role | center(12) }}]",
    "case": "{{ m.content.title() }}|{{ m.content | title }}|{{ m.content.capitalize() }}|{{ m.content.swapcase() }}|{{ m.role | capitalize }}|{{ m.content | upper }}|{{ m.content.lower() }}",
    "kinds of letters": "{{ m.content.isspace() }}{{ m.role.isalpha() }}{{ '12'.isdigit() }}{{ 'a1'.isalnum() }}{{ m.role.islower() }}{{ 'AB'.isupper() }}{{ m.content.isascii() }}{{ m.content }}",
    "truncate": "{{ m.content | truncate(9) }}|{{ m.content | truncate(9, true, '', 0) }}|{{ m.content | truncate(length=12, end='~', leeway=1) }}|{{ m.content | wordcount }}",
    "indent": "{{ m.content | indent }}|{{ 'a\\n\\nb\\n' | indent(2) }}|{{ 'a\\n\\nb' | indent(2, true, true) }}|{{ '\\na\\r\\nb\\n\\n' | indent(width=3, first=true) }}|{{ 'a\\nb' | indent('> ', blank=true) }}|{{ '' | indent(4, true) }}",
    "numbers": "{{ 'x' | int }} {{ '12' | int + 1 }} {{ ' 7 ' | int }} {{ '1.9' | int }} {{ '0x1f' | int(base=16) }} {{ '1_000' | int }} {{ '_1' | int(5) }} {{ 'x' | float }} {{ '1e3' | float }} {{ 1e20 }} {{ 1e-7 }} {{ 3 / 2 }} {{ 7 // 2 }} {{ 1e16 }} {{ 0.1 + 0.2 }} {{ [1.5, 1e20] }} {{ 2 ** 10 }} {{ -7 // 2 }} {{ 4 / 2 }}",
    "numbers rounded": "{{ 2.5 | round }} {{ 3 | round }} {{ 2.675 | round(2) }} {{ 2.1 | round(0, 'ceil') }} {{ 7 | abs }} {{ -1.5 | abs }} {{ [3, 1, 2] | sum }} {{ [3, 1, 2] | max }} {{ ['b', 'A'] | min }}{{ m.content }}",
    "escape": "{{ (m.content ~ \"'\\\"<&>\") | e }}{{ '<' | e | escape }}{{ '<u>' ~ m.role | safe if loop.first else m.content | e | safe }}{{ (m.role | e ~ '<' | safe) | e }}",
    "escapes": "{{ 'a\\tb\\x41\\u00e9\\101\\0\\v\\a\\/\\d' }}{{ \"it's\\n\\\"\" 'and' \"more\" }}{{ 'one\\\ntwo' }}{{ '\\U0001F981' }}{{ m.content }}",
    "joined kinds": "{{ 1.0 ~ '|' ~ 1e20 ~ none ~ true ~ [1.5, 'a', none] ~ m.missing ~ {'a': 1} ~ m.content }}",
    "representation": "{{ [m.content] }}{{ ['\\u200b\\xa0\\u00ad\\u2028\\x7f', \"it's\", '\\'\"'] }}{{ {'k': m.content, 2: (1,)} }}{{ [missing] }}{{ (m.content, ()) }}",
    "lists": "{{ [1, 'a', none, true] }} {{ {'a': 1} }} {{ (1, 2) }} {{ messages[::-1][0].role }} {{ messages[1:] | length }} {{ messages | map(attribute='role') | join(' ') }}",
    "lists joined": "{{ [1] + ['a'] + [m.role] }}{{ ([m.role] * 3) | length }}{{ 'ab' * 2 }}{{ [0] * 3 }}{{ (1,) + (2, 3) }}{{ ([m.content] + [1]) | tojson }}{{ m.role in ['a'] + ['user'] }}",
    "lists sorted": "{{ [3, 1, 2] | sort }}{{ ['b', 'A', 'c'] | sort(reverse=true) }}{{ ['b', 'B', 'a'] | unique | list }}{{ messages | sort(attribute='role') | map(attribute='role') | list }}{{ {'b': 1, 'a': 2} | dictsort }}{{ {'b': 1, 'a': 2} | dictsort(by='value', reverse=true) }}{{ m.content }}",
    "lists cut": "{{ [1, 2, 3, 4, 5] | batch(2, 'x') | list }}{{ [1, 2, 3, 4, 5] | slice(2) | list }}{{ messages | groupby('role') | map('first') | list }}{{ [1, 2, 3] | reverse | list }}{{ 'abc' | reverse }}{{ 'abc' | list }}{{ [1, 2] | first }}{{ [1, 2] | last }}",
    "lists joined to text": "{{ [1, 2.0, none, 'a', [1]] | join(', ') }}{{ messages | join('|', attribute='role') }}{{ ['a', 'b'] | join }}{{ [[1]] | join(d='-') }}{{ ', '.join(['x', m.role]) }}",
    "lists mapped": "{{ [{'a': 1}, {}] | map(attribute='a', default='-') | list }}{{ ['a', 'b'] | map('upper') | join }}{{ messages | map(attribute='content') | map('trim') | map('length') | list }}{{ [{'a': {'b': 1}}] | map(attribute='a.b') | first }}{{ ['a\nb'] | map('indent', width=2) | first }}{{ ['x'] | map('default', 'y') | list }}{{ [[1, 2], [3]] | map('join', d='-') | list }}{{ [['a', 'b']] | map(attribute=1) | list }}{{ [1, 2, 3] | select('odd') | list }}{{ [1, none] | reject('none') | list }}",
    "select": "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | list }}{{ messages | selectattr('name', 'defined') | list }}{{ (messages | selectattr('role', 'in', ['user', 'system']) | list | last).content }}",
    "tests": "{{ m.content is string }}{{ m is mapping }}{{ messages is sequence }}{{ m.content is sequence }}{{ none is sequence }}{{ 1 is number }}{{ true is boolean }}{{ m.x is defined }}{{ m.content is iterable }}{{ 3 is odd }}",
    "more tests": "{{ missing is sequence }}{{ missing is iterable }}{{ 1 is iterable }}{{ true is number }}{{ true is integer }}{{ 1.0 is float }}{{ m.role is in ['user'] }}{{ m.role is eq 'user' }}{{ 6 is divisibleby 3 }}{{ m.role is not none }}{{ none is not defined }}{{ false is false }}{{ 1 is true }}{{ m.role is sameas none }}{{ {} is mapping }}{{ [] is string }}{{ m.role is lower }}{{ 2 is gt 1 }}",
    "dictionary": "{{ m.get('name', 'nobody') }}{{ m.items() | list | length }}{{ m.keys() | list }}{{ m.values() | list | length }}{{ 'content' in m }}{{ m['role'] in ['user', 'system'] }}{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}",
    "dictionary by filters": "{% for k, v in m | items %}{{ k }}{% endfor %}{% for k, v in m | dictsort %}{{ k }}{% endfor %}{% for k in m %}{{ k }}{% endfor %}{{ m | length }}{{ m | list }}{{ dict(a=1, b=m.role) }}{{ {'user': 'U', 'assistant': 'A'}.get(m.role, m.role) }}{{ {'user': 'U'}[m.role] }}{{ m.content }}",
    "undefined": "{{ m.name }}{{ m.name | default('x') }}{{ (m.name or 'y') }}{{ 'z' if m.name is not defined }}{{ missing }}",
    "defaults": "{{ '' | default('a', true) }}{{ '' | default('a', boolean=true) }}{{ '' | d('a', boolean=false) }}{{ missing | default(none) }}{{ missing | default(default_value=m.role) }}{{ 0 | default(5) }}{{ missing | default }}{{ m.content }}",
    "undefined in lists": "{{ missing | length }}{{ missing | list }}{{ 'a' in missing }}{% for x in missing %}x{% endfor %}{{ missing == none }}{{ missing is none }}{{ not missing }}{{ missing ~ 'a' }}{{ missing | trim }}{{ m.content }}",
    "or and and": "{{ m.name or none or m.role }}{{ '' and 1 }}{{ 0 or [] }}{{ m.content and 'c' }}{{ not '' }}{{ (m.x or {}).get('a', 'n') }}",
    "namespace": "{% set ns = namespace(n=0, s='') %}{% for c in m.content.split(' ') %}{% set ns.n = ns.n + 1 %}{% set ns.s = ns.s ~ c[:1] %}{% endfor %}{{ ns.n }}{{ ns.s }}",
    "namespace of lists": "{% set ns = namespace(kept=[], last=none, found=false) %}{% for x in messages %}{% if x.role == 'user' %}{% set ns.kept = ns.kept + [x] %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{{ ns.kept | length }}{{ ns.last }}{{ ns.found }}{{ ns.missing is defined }}{{ m.content }}",
    "scopes": "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{% for i in [1] %}{% set x = 3 %}{{ x }}{% endfor %}{% with x = 4, y = 5 %}{{ x }}{{ y }}{% endwith %}{{ x }}{% set a, b = (1, 2) %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}{{ m.content }}",
    "macro": "{% macro say(who, text='none') %}{{ who }}>{{ text | trim }};{% endmacro %}{{ say(m.role, m.content) }}{{ say('x') }}",
    "macro of its own": "{% macro tree(x, depth=0) %}{{ '-' * depth }}{% if x is mapping %}{% for k, v in x.items() %}{{ k }}:{{ tree(v, depth + 1) }}{% endfor %}{% elif x is string %}'{{ x }}'{% elif x is iterable %}[{% for v in x %}{{ tree(v, depth=depth + 1) }}{% endfor %}]{% else %}{{ x }}{% endif %}{% endmacro %}{{ tree({'a': [1, {'b': m.role}], 'c': none}) }}{{ m.content }}",
    "macro and scope": "{% set x = 1 %}{% macro see(y=2) %}{{ x }}{{ y }}{{ z is defined }}{% endmacro %}{% set x = 3 %}{{ see() }}{{ see(y=m.role) }}{{ see(none) }}{{ m.content }}",
    "set block": "{% set body %}[{{ m.content }}]{% endset %}{{ body | length }}{{ body | upper }}{% set tidy | trim | lower %} {{ m.role }} X {% endset %}{{ tidy }}",
    "filter block": "{% filter upper %}{{ m.content }}{% endfilter %}{% filter replace('a', 'o') | trim %} banana {% endfilter %}",
    "call block": "{% macro box() %}<{{ caller() }}>{% endmacro %}{% call box() %}{{ m.content }}{% endcall %}{% macro each(xs) %}{% for x in xs %}{{ caller(x) }}{% endfor %}{% endmacro %}{% call(x) each([1, 2]) %}({{ x }}){% endcall %}",
    "raw": "{% raw %}{{ not read }}{% generation %}{% endraw %}{{ m.content }}",
    "comment": "{# {% generation %} {{ x #}{{ m.content }}",
    "white space": "a \n  {%- if true -%}  \n b {%- endif %}\n{%+ if true %} c{% endif +%}\n  {# x -#}  d\n{{- m.content -}}\n  e",
    "replace": "{{ m.content | replace('a', 'o') }}{{ m.content.replace('e', 'i', 1) }}{{ m.content | replace('e', 'i', 1) }}{{ m.content | replace('e', 'i', count=1) }}{{ m.content.count('a') }}{{ m.content.find('a') }}{{ m.content.rfind('a') }}{{ m.content.startswith(('H', 'W')) }}{{ m.content.endswith('.') }}",
    "strip": "[{{ m.content.strip() }}|{{ m.content.lstrip('\\n ') }}|{{ m.content.rstrip('.') }}|{{ m.content | trim('.') }}]",
    "slices": "{{ m.content[::-1] }}{{ m.content[-3:] }}{{ m.content[:3] }}{{ m.content[0] }}{{ m.content | first }}{{ m.content | last }}{{ [1, 2, 3, 4][::2] }}{{ [1, 2, 3, 4][-2:] }}{{ messages[-1].role }}{{ [1, 2][5] is defined }}{{ (1, 2, 3)[1:] }}",
    "alternate": "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}",
    "no system": "{% if m.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}{{ m.content }}",
    "fixed date": "{% if strftime_now is string %}x{% endif %}{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}{{ date_string }}{{ m.content }}",
    "conditions": "{{ 'a' if m.role == 'user' else 'b' if m.role == 'system' else 'c' }}{{ not m.x and (m.role == 'user' or loop.last) }}{{ 1 < loop.index <= 3 }}{{ 'in' if m.role not in ['user'] else 'out' }}{{ -1 if m.x else 2 }}",
    "marks scoped": "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{{ m.content }}{% endgeneration %}{{ x }}",
}
# Of these the reply is no part, so that it is added.
SILENT = """
    json of kinds, format, format of kinds, partition, justify, numbers, lists, lists cut, lists joined to text, lists mapped,
    select, tests, more tests, undefined, or and and, namespace, set block, filter block, slices, conditions
"""
for name, line in LINES.items():
    line += "{{ m.content }}" if name in map(str.strip, SILENT.split(",")) else ""
    sign = lambda sign: "{{ '" + sign + "' if m.role == 'assistant' else '' }}"
    TEMPLATES[name] = (
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: " + sign(OPEN) + line + "{{ eos_token }}" + sign(CLOSE)
        + "\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
        [],
    )

# In the manner of families of models, in our own words; `⟦` and `⟧` stand around replies in the twin.
CHATML = ["<|im_start|>", "<|im_end|>"]
HEADERS = ["<|head|>", "<|/head|>", "<|over|>", "<|tool|>"]
FAMILIES = {
    "date and system turn first": (HEADERS, """{{- bos_token }}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "1 May 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system turn is taken out of the list. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set first = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set first = "" %}
{%- endif %}
{{- "<|head|>system<|/head|>\\n\\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Tools: " + (tools | tojson(indent=4)) }}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}
{{- first }}
{{- "<|over|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|head|>' + message['role'] + '<|/head|>\\n\\n' }}⟦{{- message['content'] | trim + '<|over|>' }}⟧
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|head|>assistant<|/head|>\\n\\n' }}
{%- endif %}
"""),
    "a default system turn": (CHATML, """{%- if tools %}
    {{- '<|im_start|>system\\nTools\\n' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' }}⟦{{- message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n' + tool_call.name }}
        {%- endfor %}
        {{- '<|im_end|>' }}⟧{{- '\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""),
    "thoughts of the last turn only": (CHATML, """{%- set ns = namespace(walking=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.walking and message.role == "user" and message.content is string and not(message.content.startswith('<result>') and message.content.endswith('</result>')) %}
        {%- set ns.walking = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role != "assistant" %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- else %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' }}⟦
        {%- if loop.index0 > ns.last_query and (loop.last or (not loop.last and reasoning_content)) %}
            {{- '<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- content }}
        {%- endif %}
        {{- '<|im_end|>' }}⟧{{- '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""),
    "system text before the first user turn": (["<start_of_turn>", "<end_of_turn>"], """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}
        {%- set prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("turns alternate") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (prefix if loop.first else "") }}⟦
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("unknown content") }}
    {%- endif -%}
    {{ '<end_of_turn>' }}⟧{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\\n'}}
{%- endif -%}
"""),
    "instructions in brackets": (["[INST]", "[/INST]"], """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("turns alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[TOOLS]" }}
        {%- endif %}
        {%- if loop.first and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}⟦
        {{- " " + message["content"] | trim + eos_token}}⟧
    {%- else %}
        {{- raise_exception("only user and assistant") }}
    {%- endif %}
{%- endfor %}
"""),
    "instructions in plain brackets": ([], """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns alternate') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}⟦{{ ' ' + content.strip() + ' ' + eos_token }}⟧{% endif %}{% endfor %}"""),
    "an end of turns and one of the text": (["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"], """{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n'}}⟦{{ message['content'] + '<|end|>'}}⟧{{'\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""),
    "turns on one line": (["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"], """{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}{% else %}{{ '<|' + message['role'] + '|>' }}⟦{{ message['content'] + '<|end|>' }}⟧{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"""),
    "macros and preambles": (["<|T|>", "<|/T|>", "<|USER|>", "<|BOT|>", "<|SYS|>"], """{%- macro named(text) -%}
{%- if text is string -%}{{ text | trim }}{%- elif text is iterable -%}{%- for part in text -%}{{ part.text }}{%- endfor -%}{%- else -%}{{ text | string }}{%- endif -%}
{%- endmacro -%}
{%- macro section(title, lines) -%}
# {{ title }}
{% for line in lines %}
- {{ line }}
{% endfor %}
{%- endmacro -%}
{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}
{%- set loop_messages = messages[1:] %}
{%- set system_message = messages[0]['content'] %}
{%- elif false == true %}
{%- set loop_messages = messages %}
{%- set system_message = 'Answer.' %}
{%- else %}
{%- set loop_messages = messages %}
{%- set system_message = false %}
{%- endif %}
{%- if documents %}{{ section('Documents', documents | map(attribute='title')) }}{% endif %}
{%- if system_message != false %}
{{- '<|T|><|SYS|>' + section('Rules', [system_message | trim, 'Be brief.']) + '<|/T|>' }}
{%- endif %}
{%- for message in loop_messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns alternate') }}{%- endif %}
{%- if message['role'] == 'user' %}
{{- '<|T|><|USER|>' + named(message['content']) + '<|/T|>' }}
{%- elif message['role'] == 'assistant' %}
{{- '<|T|><|BOT|>' }}⟦{{- named(message['content']) + '<|/T|>' }}⟧
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|T|><|BOT|>' }}{%- endif %}"""),
    "thoughts never, and asked for": (["<｜User｜>", "<｜Bot｜>", "<｜over｜>"], """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not none %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Bot｜>'}}⟦{{ content + '<｜over｜>'}}⟧{%- endif %}{%- endfor -%}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Bot｜><think>\\n'}}{% endif %}"""),
    "thoughts never": (["<｜User｜>", "<｜Bot｜>", "<｜over｜>"], """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=true, system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' %}{{'<｜Bot｜>'}}⟦{{ message['content'].split('</think>') | last + '<｜over｜>'}}⟧{%- endif %}{%- endfor -%}{% if add_generation_prompt %}{{'<｜Bot｜>'}}{% endif %}"""),
    "no line break behind the last": ([], """{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'user' %}{{ '<|user|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\\n' }}{% if not loop.last %}⟦{{ message['content'] + eos_token }}⟧{{ '\\n' }}{% else %}⟦{{ message['content'] + eos_token }}⟧{% endif %}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}"""),
    "marks of plain text": ([], """{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\\n' }}⟦{{ message['content'] + eos_token }}⟧\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"""),
    "metadata and modes": (CHATML, """{%- if enable_thinking is not defined -%}
{%- set enable_thinking = true -%}
{%- endif -%}
{%- if messages[0].role == "system" -%}
  {%- set system_message = messages[0].content -%}
  {%- if "/no_think" in system_message -%}
    {%- set mode = "/no_think" -%}
  {%- elif "/think" in system_message -%}
    {%- set mode = "/think" -%}
  {%- else -%}
    {%- set mode = "/think" if enable_thinking else "/no_think" -%}
  {%- endif -%}
  {%- set custom = system_message.replace("/no_think", "").replace("/think", "").rstrip() -%}
{%- else -%}
  {%- set mode = "/think" if enable_thinking else "/no_think" -%}
{%- endif -%}
{{- "<|im_start|>system\\n" -}}
  {{- "## Metadata\\n\\n" -}}
  {{- "Mode: " ~ mode ~ "\\n\\n" -}}
  {%- if custom is defined -%}
    {{- custom ~ "\\n\\n" -}}
  {%- endif -%}
{{- "<|im_end|>\\n" -}}
{%- for message in messages -%}
    {%- set content = message.content if message.content is string else "" -%}
    {%- if message.role == "user" -%}
        {{ "<|im_start|>" + message.role + "\\n" + content + "<|im_end|>\\n" }}
    {%- elif message.role == "assistant" -%}
        {{ "<|im_start|>assistant\\n" }}{% generation %}⟦
        {%- if mode == "/think" -%}
            {{ content.lstrip("\\n") + "<|im_end|>" }}
        {%- else -%}
            {{ "<think>\\n\\n</think>\\n" + content.lstrip("\\n") + "<|im_end|>" }}
        {%- endif -%}⟧{% endgeneration %}{{ "\\n" }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ "<|im_start|>assistant\\n" }}
{%- endif -%}
"""),
    "roles between marks": (["<|role|>", "<|/role|>", "<|done|>"], """{%- if messages[0]['role'] == 'system' %}
{%- set system_message = messages[0]['content'] %}
{%- set loop_messages = messages[1:] %}
{%- else %}
{%- set system_message = "Knowledge ends in April 2024.\\nYou help." %}
{%- if tools and documents %}
{%- set system_message = system_message + " Use both." %}
{%- elif tools %}
{%- set system_message = system_message + " Use tools." %}
{%- endif %}
{%- if thinking is defined and thinking %}{%- set system_message = system_message + " Think." %}{%- endif %}
{%- set loop_messages = messages %}
{%- endif %}
{{- '<|role|>system<|/role|>' + system_message + '<|done|>\\n' }}
{%- if tools %}{{- tools | tojson(indent=4) }}{%- endif %}
{%- if documents %}{%- for document in documents %}{{- 'Document ' + loop.index0 | string }}{%- endfor %}{%- endif %}
{%- for message in loop_messages %}
{{- '<|role|>' + message['role'] + '<|/role|>' }}⟦{{- message['content'] + '<|done|>' }}⟧{{- '\\n' }}
{%- if loop.last and add_generation_prompt %}
{{- '<|role|>assistant<|/role|>' }}
{%- endif %}
{%- endfor %}"""),
    "tools as functions": (CHATML, """{%- macro type_of(spec) %}
{%- set basic = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"} %}
{%- if basic[spec.type] is defined %}
    {{- basic[spec.type] }}
{%- elif spec.type == "array" %}
    {{- "list[" + type_of(spec["items"]) + "]" }}
{%- elif spec.type == "object" %}
    {%- if spec.additionalProperties is defined %}
        {{- "dict[str, " + type_of(spec.additionalProperties) + "]" }}
    {%- else %}
        {{- "dict" }}
    {%- endif %}
{%- elif spec.type is iterable %}
    {{- "Union[" }}
    {%- for t in spec.type %}
        {{- type_of({"type": t}) }}
        {%- if not loop.last %}
            {{- "," }}
        {%- endif %}
    {%- endfor %}
    {{- "]" }}
{%- else %}
    {{- "Any" }}
{%- endif %}
{%- endmacro %}
{{- bos_token }}
{{- '<|im_start|>system\\n' + type_of({"type": "array", "items": {"type": ["string", "number"]}}) + type_of({"type": "object", "additionalProperties": {"type": "integer"}}) + '<|im_end|>\\n' }}
{%- for message in messages %}
    {%- if message.role == "user" or message.role == "system" or (message.role == "assistant" and message.tool_calls is not defined) %}
        {{- '<|im_start|>' + message.role + '\\n' }}⟦{{- message.content + '<|im_end|>' }}⟧{{- '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""),
    "channels": (["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"], """{%- macro render_system() -%}
    {%- if model_identity is not defined %}{%- set model_identity = "You help." %}{%- endif %}
    {{- model_identity + "\\n" }}
    {%- if reasoning_effort is not defined %}{%- set reasoning_effort = "medium" %}{%- endif %}
    {{- "Reasoning: " + reasoning_effort + "\\n" }}
    {{- "# Channels: analysis, final." }}
{%- endmacro -%}
{{- "<|start|>system<|message|>" }}
{{- render_system() }}
{{- "<|end|>" }}
{%- if messages[0].role == "developer" or messages[0].role == "system" %}
    {%- set developer_message = messages[0].content %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set developer_message = "" %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if developer_message or tools %}
    {{- "<|start|>developer<|message|># Instructions\\n\\n" + developer_message + "<|end|>" }}
{%- endif %}
{%- set last_tool_call = namespace(name=none) %}
{%- for message in loop_messages -%}
    {%- if message.role == 'assistant' -%}
        {%- if loop.last and not add_generation_prompt %}
            {{- "<|start|>assistant" }}⟦{{- "<|channel|>final<|message|>" + message.content + "<|return|>" }}⟧
        {%- elif "thinking" in message %}
            {{- "<|start|>assistant<|channel|>analysis<|message|>" + message.thinking + "<|end|>" }}
        {%- else %}
            {{- "<|start|>assistant" }}⟦{{- "<|channel|>final<|message|>" + message.content }}⟧{{- "<|end|>" }}
        {%- endif %}
    {%- elif message.role == 'user' -%}
        {{- "<|start|>user<|message|>" + message.content + "<|end|>" }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|start|>assistant
{%- endif -%}"""),
    "no end at all": (["<|user|>", "<|assistant|>", "<|system|>"], """{{ bos_token }}{% for item in messages %}{% if item['content'] %}<|{{ item['role'] }}|>\n⟦{{ item['content'] }}⟧{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""),
    "names in capitals": ([], """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\\n\\n' }}{% endif %}{% for message in messages if message['role'] != 'system' %}{{ message['role'] | upper + ': ' }}⟦{{ message['content'] | trim }}{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}⟧{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT: ' }}{% endif %}"""),
    "roles by a dictionary": (["[|system|]", "[|user|]", "[|assistant|]", "[|over|]"], """{%- set roles = {'system': '[|system|]', 'user': '[|user|]', 'assistant': '[|assistant|]'} %}
{%- for message in messages %}
{%- if loop.first and message['role'] != 'system' %}{{ '[|system|][|over|]\\n' }}{% endif %}
{%- if message['role'] not in roles.keys() | list %}{{ raise_exception('unknown role ' ~ message['role']) }}{% endif %}
{{- roles.get(message['role']) }}⟦{{- message['content'].strip() ~ '[|over|]' }}⟧{{- '\\n' if not loop.last or add_generation_prompt else '' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ roles['assistant'] }}{% endif %}"""),
    "content of every kind": (CHATML, """{%- macro render(content) -%}
    {%- if content is none -%}{{- '' -}}{%- elif content is string -%}{{- content -}}{%- elif content is mapping -%}{{- content['value'] if 'value' in content else content['text'] -}}{%- elif content is iterable -%}{%- for item in content -%}{%- if item.type == 'text' -%}{{- item.value if 'value' in item else item.text -}}{%- endif -%}{%- endfor -%}{%- else -%}{{- content | string -}}{%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(system=[], others=[]) -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}{%- set ns.system = ns.system + [message] -%}{%- else -%}{%- set ns.others = ns.others + [{'role': message.role, 'content': render(message.content), 'at': loop.index0}] -%}{%- endif -%}
{%- endfor -%}
{{- bos_token -}}
{%- if ns.system | length > 0 -%}{{- '<|im_start|>system\\n' ~ ns.system | map(attribute='content') | join('\\n') ~ '<|im_end|>\\n' -}}{%- endif -%}
{%- for message in ns.others -%}
    {{- '<|im_start|>' ~ message['role'] ~ '\\n' -}}⟦{{- message['content'] ~ '<|im_end|>' -}}⟧{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""),
    "a blank before the reply": ([], """{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n{% else %}### Response:\n⟦{{ m.content }}{{ eos_token }}⟧\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}### Response:\n{% endif %}"""),
    "marks trimmed": ([], """{{ bos_token }}{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}
  {%- generation -%}
  ⟦{{ m.content }}
  {%- endgeneration -%}
  {{ eos_token }}⟧
  {%- else %}{{ m.content }}{% endif %}
{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""),
    "counted turns": ([], """{{ bos_token }}{{ messages | length }} turns\n{% for m in messages %}{{ m.role }}: ⟦{{ m.content }}{{ eos_token }}⟧\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""),
    "counted turns, marked": ([], """{{ bos_token }}{{ messages | length }} turns\n{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}⟦{{ m.content }}{{ eos_token }}⟧{% endgeneration %}{% else %}{{ m.content }}{{ eos_token }}{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""),
}
for name, (added, template) in FAMILIES.items():
    TEMPLATES[name] = (template.replace("⟦", OPEN).replace("⟧", CLOSE), added)


# Of these no targets can be had: what the message says of the template or, by the number of the conversation
# from 0, of the conversation.
ENDLESS = "never learn to stop"
CHANGING = "it does not write the beginning of the conversation"
REFUSED = {
    **{name: ENDLESS for name in TEMPLATES if name.startswith("hash") and name != "hash, end once"},
    "no end at all": ENDLESS,
    # These write something of the whole conversation in each turn.
    **{
        name: CHANGING
        for name in [
            "previous turn", "loop", "lists", "lists sorted", "lists cut", "lists joined to text", "lists mapped",
            "select", "slices", "counted turns", "thoughts never, and asked for",
        ]
    },
    # Where the end token stands in a reply, that must be found as it is.
    **{name: {4: "reply 1 (message 2) cannot be found"} for name in ["json sorted", "representation", "replace"]},
    "loop controls": {
        **{i: "the template writes no `</s>` after reply 2 (message 4)" for i in [1, 2, 4]},
        5: "the template writes the turns before reply 2 (message 5) otherwise",
    },
    "namespace of lists": {
        **{i: "the template writes the turns before reply 1 (message 2) otherwise" for i in [1, 2, 4]},
        5: "the template writes the turns before reply 1 (message 3) otherwise",
    },
    "marks scoped": {i: f"the template marks {n}" for i, n in enumerate(["2 of 1", "4 of 2", "4 of 2", "3 of 1", "4 of 2", "7 of 3"])},
}

# These ask for today's date, whatever there is.
DATED = {
    "date": "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "date in a macro": "{% macro head() %}{{ strftime_now('%Y') }}{% endmacro %}{{ head() }}{{ messages[0].content }}",
}


def without_signs(template):
    """The template whose twin has signs."""
    template = re.sub("{{ '[" + OPEN + CLOSE + "]' if [^}]* else '' }}", "", template)
    return template.replace(OPEN, "").replace(CLOSE, "")


def render(template, messages, ask, marked=False):
    """The text and the marks, or nothing where the template refuses the conversation."""
    # lions has no date of today: a template that asks takes its own.
    chat_template_utils._compile_jinja_template(template).environment.globals.pop("strftime_now", None)
    try:
        texts, marks = chat_template_utils.render_jinja_template(
            conversations=[messages],
            chat_template=template,
            return_assistant_tokens_mask=marked,
            add_generation_prompt=ask,
            bos_token="<s>",
            eos_token="</s>",
        )
    except Exception:
        return None, None
    return texts[0], marks[0] if marks else None


def spans_of(signed, messages):
    """The text without the twin's signs, and the ranges of the assistant's turns; none if some are not there."""
    text, spans = "", []
    for c in signed:
        if c == OPEN:
            spans.append([len(text)])
        elif c == CLOSE:
            spans[-1].append(len(text))
        else:
            text += c
    if any(len(span) < 2 for span in spans):
        return text, None
    roles = [m["role"] for m in messages]
    written = [roles, [r for r in roles if r != "system"], ["assistant"] * roles.count("assistant")]
    roles = next((roles for roles in written if len(roles) == len(spans)), None)
    return text, roles and [span for role, span in zip(roles, spans) if role == "assistant"]


class Shipped:
    """The shipped tokenizer with these tokens in addition."""

    def __init__(self, added):
        data = json.loads((ROOT / "models" / "stories260k" / "tokenizer.json").read_text(encoding="utf-8"))
        form = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        data["added_tokens"] += [{"id": 512 + i, "content": text, **form} for i, text in enumerate(added)]
        self.special = [token["content"] for token in data["added_tokens"]]
        self.plain = tokenizers.Tokenizer.from_str(json.dumps(data))
        self.whole = PreTrainedTokenizerFast(tokenizer_object=self.plain, bos_token="<s>", eos_token="</s>")
        bare = dict(data, normalizer=data["normalizer"]["normalizers"][1])
        self.bare = tokenizers.Tokenizer.from_str(json.dumps(bare))

    def cut(self, text, edges):
        """Ids piece by piece; behind a cut that is not behind a special token there is no blank before text."""
        pieces = []
        for start, end in zip([0] + edges, edges + [len(text)]):
            piece, head = text[start:end], 0
            if start > 0 and not any(text[:start].endswith(token) for token in self.special):
                head = min([piece.find(token) for token in self.special if token in piece], default=len(piece))
            ids = self.bare.encode(piece[:head], add_special_tokens=False).ids
            pieces.append(ids + self.plain.encode(piece[head:], add_special_tokens=False).ids)
        return pieces


def tokens(tokenizer, template, talk, text, spans):
    """Ids and the ranges of targets among them."""
    out = tokenizer.whole.apply_chat_template(
        talk, chat_template=template, return_dict=True, return_assistant_tokens_mask=True, bos_token="<s>", eos_token="</s>"
    )
    ids, mask = list(out["input_ids"]), list(out["assistant_masks"])
    offsets = tokenizer.whole(text, add_special_tokens=False, return_offsets_mapping=True)
    assert offsets["input_ids"] == ids
    # A token's characters, but for the blank that is put before a text.
    places = [(a, b) for a, b in offsets["offset_mapping"]]
    edges = [edge for span in spans for edge in span]
    if any(a < edge < b for edge in edges for a, b in places):
        pieces = tokenizer.cut(text, edges)
        found = {"cut": True}
    else:
        bounds = [0] + edges + [len(text)]
        pieces = [[i for i, (a, b) in zip(ids, places) if lo <= a < hi] for lo, hi in zip(bounds, bounds[1:])]
        assert sum(pieces, []) == ids
        found = {}
    flat, targets = [], []
    for i, piece in enumerate(pieces):
        if i % 2 == 1:
            targets.append([len(flat), len(flat) + len(piece)])
        flat += piece
    if not found:
        ours = [int(any(a <= i < b for a, b in targets)) for i in range(len(ids))]
        found = {"mask": True} if ours == mask else {}
    return {"tokens": flat, "targets": targets, **found}


def result(name, template, added, tokenizer, number, talk):
    plain = without_signs(template)
    marked = "{% generation" in plain or "{%- generation" in plain
    out = {}
    out["text"], marks = render(plain, talk, False, marked)
    out["asked"], _ = render(plain, talk[:-1], True, marked)
    if marks is not None:
        out["marks"] = marks
    if out["text"] is None:
        return out
    asked = out["asked"]
    if asked is not None and out["text"].startswith(asked):
        out["asked"] = len(asked)
    text, spans = spans_of(render(template, talk, False)[0], talk)
    assert text == out["text"], (name, text, out["text"])
    refused = REFUSED.get(name, {})
    if isinstance(refused, str) or asked is None:
        return out
    if number in refused:
        out["refused"] = refused[number]
        return out
    out["spans"] = spans
    out.update(tokens(tokenizer, plain, talk, text, spans))
    return out


def main():
    cases, tokenizers_by = [], {}
    for name, (template, added) in TEMPLATES.items():
        tokenizer = tokenizers_by.setdefault(tuple(added), Shipped(added))
        results = [result(name, template, added, tokenizer, i, talk) for i, talk in enumerate(TALKS)]
        case = {"name": name, "template": without_signs(template), "added": added}
        if isinstance(REFUSED.get(name), str):
            case["refused"] = REFUSED[name]
        cases.append({**case, "results": results})
    for name, template in DATED.items():
        cases.append({"name": name, "template": template, "dated": True, "results": []})
    golden = {
        "made_with": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__, "jinja2": jinja2.__version__},
        "conversations": TALKS,
        "cases": cases,
    }
    text = json.dumps(golden, ensure_ascii=False, separators=(",", ":")).replace('{"name":', '\n{"name":')
    OUT.write_text(text + "\n", encoding="utf-8")
    found = [r for c in cases for r in c["results"]]
    count = lambda key: sum(bool(r.get(key)) for r in found)
    print(len(cases), "templates", count("text"), "texts", count("asked"), "asked", count("marks"), "marks")
    print(count("tokens"), "tokens", count("cut"), "cut", count("mask"), "masks of transformers")


if __name__ == "__main__":
    main()
