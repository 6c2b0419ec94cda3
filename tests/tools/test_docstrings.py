"""What docstrings say of a function and its parameters, in the styles that people write."""

from __future__ import annotations

import pytest

from modelcompose_jupyter.tools.docstrings import parse

GOOGLE = """Tell the weather.

    More of it.

    Args:
        city: Where, and
            in which country.
        unit (Literal["C", "F"], optional): Of degrees: C or F.
        **rest: Whatever else.

    Returns:
        str: What it is like.

    It may be wrong.
    """

NUMPY = """
    Tell the weather.

    More of it.

    Parameters
    ----------
    city : str
        Where, and
        in which country.
    unit, other : {"C", "F"}, optional
        Of degrees: C or F.
    untold

    Returns
    -------
    str
        What it is like.
    """

SPHINX = """Tell the weather.

    More of it.

    :param city: Where, and
        in which country.
    :param str unit: Of degrees: C or F.
    :type city: str
    :raises ValueError: never
        at all.
    :return: What it is like.
    """


@pytest.mark.parametrize(
    ("text", "description", "more"),
    [
        (GOOGLE, "Tell the weather. More of it. It may be wrong.", {"rest": "Whatever else."}),
        (NUMPY, "Tell the weather. More of it.", {"other": "Of degrees: C or F."}),
        (SPHINX, "Tell the weather. More of it.", {}),
    ],
)
def test_a_docstring_of_each_style(text, description, more):
    found = parse(text)
    assert " ".join(found.description.split()) == description
    described = {"city": "Where, and in which country.", "unit": "Of degrees: C or F."}
    assert found.parameters == described | more


@pytest.mark.parametrize(
    ("text", "description"),
    [
        (None, ""),
        ("", ""),
        ("One line: with a colon.", "One line: with a colon."),
        ("Notes of a tune.\nArgs are not named.", "Notes of a tune.\nArgs are not named."),
        ("Args:", ""),
        ("Do it.\n\nArgs:\n    no entry at all", "Do it."),
        ("Parameters\n----------", ""),
        (":param", ":param"),
        (":param x y: z", ""),
        ("날씨를 알려 준다.\n\nArgs:\n    도시: 어디", "날씨를 알려 준다."),
    ],
)
def test_what_is_not_understood_is_no_error(text, description):
    assert parse(text).description == description


def test_names_in_any_script():
    assert parse("날씨.\n\nArgs:\n    도시: 어디").parameters == {"도시": "어디"}
