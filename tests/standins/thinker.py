"""The bundled model as one that thinks: its template opens a thought, which a budget ends."""

from __future__ import annotations

BUDGET = 12
TEMPLATE = (
    "{% for m in messages %}{{ m.content }}\\n{% endfor %}"
    "{% if add_generation_prompt %}<think>\\n{% endif %}{# </think> #}"
)
THINKER = f"""\
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  chat_template: "{TEMPLATE}"
  messages: ${{input.messages as json}}
  thinking_budget: ${{input.budget as integer | {BUDGET}}}
  max_output_length: ${{input.length as integer | 40}}
"""
SAID = [{"role": "user", "content": "Once upon a time there was a fox."}]
