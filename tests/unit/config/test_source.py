"""The scanner that finds lines in TOML, held against the standard reader."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from config.problems import Problems
from config.source import key_lines, read_toml

TEXT = '''# comment with [brackets] and "quotes
top = 1
[a]   # [not.this]
x = "# not a comment"   # one
"quoted key" = [
  1, # ] no end
  "]",
]
y = """
[b]
z = 1
\\""" still
"""
lit = \'\'\'
[c]\'\'\'
[a.deep]
inline = { k = "}", l = [1, 2] }
d.o . t = 2014-01-16T12:00:00+11:00
[[tier]]
name = "one"
[[tier]]

name = 'two'
[tier.sub]
key = 1
'''


def test_lines_of_tables_keys_and_entries() -> None:
    assert tomllib.loads(TEXT)["tier"][1]["sub"] == {"key": 1}
    assert key_lines(TEXT) == {
        ("top",): 2,
        ("a",): 3,
        ("a", "x"): 4,
        ("a", "quoted key"): 5,
        ("a", "y"): 9,
        ("a", "lit"): 14,
        ("a", "deep"): 16,
        ("a", "deep", "inline"): 17,
        ("a", "deep", "d", "o", "t"): 18,
        ("tier", 0): 19,
        ("tier", 0, "name"): 20,
        ("tier", 1): 21,
        ("tier", 1, "name"): 23,
        ("tier", 1, "sub"): 24,
        ("tier", 1, "sub", "key"): 25,
    }


def test_a_key_that_has_no_line_of_its_own_is_at_its_table() -> None:
    document = read_toml("f", TEXT, Problems())
    assert document is not None
    assert document.line("a", "deep", "inline", "k") == 17
    assert document.line("nowhere") == 1


def test_a_syntax_error_is_told_with_its_line() -> None:
    problems = Problems()
    assert read_toml("site.toml", "[a]\nx = 1\ny = = 2\n", problems) is None
    assert (problems.found[0].line, "y = = 2" in problems.found[0].what) == (3, True)
    assert read_toml("site.toml", "x = " + "[" * 5000, problems) is None
    assert read_toml("site.toml", "x = " + "9" * 5000, problems) is None
    assert len(problems.found) == 3


values = st.one_of(
    st.integers().map(str),
    st.text("ab#[]{}='\" \\n,.", max_size=12).map(lambda s: '"' + s.replace("\\", "\\\\").replace('"', '\\"') + '"'),
    st.text('ab#[]{}=" ,.\n', max_size=12).map(lambda s: "'''" + s + "'''"),
    st.lists(st.text("ab#]}", max_size=4).map(lambda s: f"'{s}'"), max_size=3).map(
        lambda items: "[\n" + ", # ]}\n".join(items) + "\n]"
    ),
)


@given(st.lists(st.tuples(st.booleans(), values), min_size=1, max_size=12))
def test_each_key_is_found_on_its_line_whatever_the_values_hold(items: list[tuple[bool, str]]) -> None:
    text, table, expected = "", (), {}
    for index, (new_table, value) in enumerate(items):
        if new_table:
            table = (f"t{index}",)
            text += f"[t{index}] # [x]\n"
        expected[(*table, f"k{index}")] = text.count("\n") + 1
        text += f"k{index} = {value} # = '\n"
    tomllib.loads(text)
    found = key_lines(text)
    assert {path: line for path, line in found.items() if path[-1].startswith("k")} == expected
