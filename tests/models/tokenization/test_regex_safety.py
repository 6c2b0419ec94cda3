"""Which regular expressions take for ever."""

from __future__ import annotations

from modelcompose_jupyter.models.tokenization import regex_safety

SLOW = ["(a+)+$", "(.*)*x", "(a|a)*b", "(.?){40}x", ".?" * 40 + "x", ".*" * 6 + "x", "(?=(.+)+x)y",
        "((a{1,60}){1,60}){1,60}", "(?:\\w*\\w*)+-", "x" * 200_000, r"(?:\w+\.?)*x",
        r"(?:\w+-|\w+-)*x", r"(?:[^a]+\.)*x", r"(?i)(?:[a-z]+K)*x",
        "|".join([".*" * 4 + "x"] * 1000)]  # fmt: skip
QUICK = [
    r"(?:[^.]+\.)*(?:q_proj|v_proj)", r"(?:\w+\.)+q_proj", r"(?:[a-z0-9_]+?\.)+q_proj",
    "|".join(f"model.layers.{number}.self_attn.q_proj" for number in range(300)),
    "q_proj", "all-linear", r".*\.(q|k|v|o)_proj", r"model\.layers\.\d+\.mlp\.(up|down)_proj$", "(",
    r"^(?!.*visual).*(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj).*",
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)"
    r".*?(?:k_proj|v_proj|q_proj|out_proj|fc1|fc2|o_proj|linear).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|k_proj)))",
]  # fmt: skip


def test_patterns_that_take_for_ever_are_known() -> None:
    assert [pattern for pattern in SLOW if regex_safety.is_quick(pattern)] == []
    assert [pattern for pattern in QUICK if not regex_safety.is_quick(pattern)] == []
