"""Chat templates as models have them that know tools, each in its own way, in fewer words."""

# ruff: noqa: E501  (lines as templates have them)

from __future__ import annotations

# Tools in the system message, calls and results between tags; thoughts before the last reply
QWEN_3 = """\
{%- macro turn(role, said) -%}
{{- '<|im_start|>' ~ role ~ '\\n' ~ said ~ '<|im_end|>\\n' -}}
{%- endmacro -%}
{%- set users = messages | selectattr('role', 'equalto', 'user') | list -%}
{%- set opening = messages[0].content if messages[0].role == 'system' else '' -%}
{%- if tools -%}
    {%- set lines = tools | map('tojson') | join('\\n') -%}
    {{- turn('system', (opening ~ '\\n\\n' if opening else '') ~ '# Tools\\n<tools>\\n' ~ lines ~ '\\n</tools>') -}}
{%- elif opening -%}
    {{- turn('system', opening) -}}
{%- endif -%}
{%- set seen = namespace(users=0) -%}
{%- for message in messages -%}
    {%- set content = message.content if message.content is string else '' -%}
    {%- set thoughts = message.reasoning_content if message.reasoning_content is string else '' -%}
    {%- if not thoughts and message.role == 'assistant' and '</think>' in content -%}
        {%- set pieces = content.split('</think>') -%}
        {%- set thoughts = pieces[0].replace('<think>', '') | trim -%}
        {%- set content = pieces[-1].lstrip('\\n') -%}
    {%- endif -%}
    {%- if message.role == 'user' -%}
        {%- set seen.users = seen.users + 1 -%}
        {{- turn('user', content) -}}
    {%- elif message.role == 'system' and not loop.first -%}
        {{- turn('system', content) -}}
    {%- elif message.role == 'tool' -%}
        {{- '' if loop.previtem is defined and loop.previtem.role == 'tool' else '<|im_start|>user' -}}
        {{- '\\n<tool_response>\\n' -}}
        {{- content }}
        {{- '\\n</tool_response>' -}}
        {{- '' if loop.nextitem is defined and loop.nextitem.role == 'tool' else '<|im_end|>\\n' -}}
    {%- elif message.role == 'assistant' -%}
        {{- '<|im_start|>assistant\\n' -}}
        {%- if seen.users == users | length and (loop.last or thoughts) -%}
            {{- '<think>\\n' ~ thoughts ~ '\\n</think>\\n\\n' -}}
        {%- endif -%}
        {{- content -}}
        {%- for called in message.tool_calls or [] -%}
            {%- set tool_call = called.function or called -%}
            {%- set written = tool_call.arguments if tool_call.arguments is string else tool_call.arguments | tojson -%}
            {{- '\\n' if content or not loop.first else '' -}}
            {{- '<tool_call>\\n{"name": "' ~ tool_call.name ~ '", "arguments": ' ~ written ~ '}\\n</tool_call>' -}}
        {%- endfor -%}
        {{- '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- if enable_thinking is defined and not enable_thinking -%}
        {{- '<think>\\n\\n</think>\\n\\n' -}}
    {%- endif -%}
{%- endif -%}
"""

# Tools in a system message that it always writes; calls only as a part of what is said
SMOLLM_3 = """\
{%- if messages[0].role == "system" -%}
    {%- set custom_instructions = messages[0].content.replace("/no_think", "").replace("/think", "").rstrip() -%}
{%- else -%}
    {%- set custom_instructions = "Be helpful." -%}
{%- endif -%}
{{- "<|im_start|>system\\n## Mode\\n\\nReasoning: " + ("/think" if enable_thinking | default(true) else "/no_think") + "\\n\\n## Instructions\\n\\n" + custom_instructions + "\\n\\n" -}}
{%- if xml_tools or tools -%}
    {{- "### Tools\\n\\n<tools>\\n" -}}
    {%- for tool in (tools or xml_tools)[:] -%}
        {{- (tool | string) ~ "\\n" -}}
    {%- endfor -%}
    {{- "</tools>\\n\\nWrite a call as JSON between <tool_call> and </tool_call>.\\n\\n" -}}
{%- endif -%}
{{- "<|im_end|>\\n" -}}
{%- for message in messages -%}
    {%- set content = message.content if message.content is string else "" -%}
    {%- if message.role == "user" -%}
        {{ "<|im_start|>" + message.role + "\\n" + content + "<|im_end|>\\n" }}
    {%- elif message.role == "assistant" -%}
        {% generation %}
        {%- if enable_thinking | default(true) -%}
            {{ "<|im_start|>assistant\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}
        {%- else -%}
            {{ "<|im_start|>assistant\\n" + "<think>\\n\\n</think>\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}
        {%- endif -%}
        {% endgeneration %}
    {%- elif message.role == "tool" -%}
        {{ "<|im_start|>" + "user\\n" + content + "<|im_end|>\\n" }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {%- if enable_thinking | default(true) -%}
        {{ "<|im_start|>assistant\\n" }}
    {%- else -%}
        {{ "<|im_start|>assistant\\n" + "<think>\\n\\n</think>\\n" }}
    {%- endif -%}
{%- endif -%}
"""

# Tools in the first user's message, one call at a time, results as JSON
LLAMA_3 = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" + system_message + "<|eot_id|>" }}
{%- if tools is not none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("tools need a message of the user's to stand in") }}
    {%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\nCall a function in JSON.\\n\\n' }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call in a message, no more") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

# Ids of nine letters and digits; user and assistant in turns, but for calls and their results
MISTRAL = """\
{%- if messages[0]["role"] == "system" %}
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
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("behind the system message user and assistant take turns") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] " + (tools | tojson) + "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("an id of a call has nine letters and digits") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content|string + ", " }}
        {%- if not message.tool_call_id is defined or message.tool_call_id|length != 9 %}
            {{- raise_exception("an id of a call has nine letters and digits") }}
        {%- endif %}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("no such role but user, assistant and a first system message") }}
    {%- endif %}
{%- endfor %}
"""

# Arguments as a text, in a message without content; it describes no tools
DEEPSEEK = """\
{% set ns = namespace(system_prompt='') %}
{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = ns.system_prompt ~ message['content'] %}{%- endif %}{%- endfor %}
{{bos_token}}{{ns.system_prompt}}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{{'<|User|>' + message['content']}}{%- endif %}
{%- if message['role'] == 'assistant' and message['tool_calls'] is defined and message['content'] is not defined %}
{%- for tool in message['tool_calls'] %}{{'<|tool_call_begin|>' + tool['type'] + '<|tool_sep|>' + tool['function']['name'] + '\\n' + '```json' + '\\n' + tool['function']['arguments'] + '\\n' + '```' + '<|tool_call_end|>'}}{%- endfor %}
{%- elif message['role'] == 'assistant' %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<|Assistant|>' + content + '<|end_of_sentence|>'}}
{%- endif %}
{%- if message['role'] == 'tool' %}{{'<|tool_output_begin|>' + message['content'] + '<|tool_output_end|>'}}{%- endif %}
{%- endfor -%}
{% if add_generation_prompt %}{{'<|Assistant|><think>\\n'}}{% endif %}
"""

# No system message, no tools, user and model in turns
GEMMA = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system messages here') }}{% endif %}
{%- for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('user and assistant take turns') }}{% endif %}
{%- if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}
"""
