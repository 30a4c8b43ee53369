"""From a YAML text to words with places: what YAML itself can get wrong, and what is bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.settings.place import (
    MAX_DEPTH,
    MAX_NODES,
    MAX_TEXT,
    Blank,
    Document,
    Entry,
    Mapping,
    Place,
    Scalar,
    Sequence,
    child,
    place,
)

ENVIRON = {"NAME": "value", "EMPTY": "", "PORT": "8080", "QUOTED": "a: [b"}


def placed(text: str) -> Document:
    return place(text, file="a.yaml", environ=ENVIRON)


def word(text: str) -> Scalar | Blank:
    """The word that `key: text` holds."""
    tree = placed(f"key: {text}").tree
    assert isinstance(tree, Mapping)
    value = tree.entries[0].value
    assert isinstance(value, Scalar | Blank)
    return value


def said(text: str) -> list[str]:
    return [str(problem) for problem in placed(text).problems]


def test_tree_knows_where_each_word_is() -> None:
    document = placed("a: 1\nb:\n  - 'two'\n")
    assert document.problems == []
    two = Scalar(Place(3, 5), "two", "two", plain=False)
    assert document.tree == Mapping(
        Place(1, 1),
        (
            Entry(Place(1, 1), "a", Scalar(Place(1, 4), "1", "1", plain=True), again=False),
            Entry(Place(2, 1), "b", Sequence(Place(3, 3), (two,)), again=False),
        ),
    )


@pytest.mark.parametrize("text", ["on", "8080:22", "0777", "1e3", "2024-01-01", "0x10", "=", "1_0"])
def test_no_word_is_typed_by_yaml(text: str) -> None:
    scalar = word(text)
    assert isinstance(scalar, Scalar)
    assert scalar.text == text
    assert not scalar.is_null


@pytest.mark.parametrize(
    ("text", "null"),
    [("", True), ("~", True), ("null", True), ('""', False), ("'null'", False), ("none", False)],
)
def test_null_is_what_is_not_written(text: str, null: bool) -> None:
    scalar = word(text)
    assert isinstance(scalar, Scalar)
    assert scalar.is_null is null


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("${NAME}", "value"),
        ("a${NAME}b${PORT}", "avalueb8080"),
        ("${UNSET:-other}", "other"),
        ("${UNSET:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-other}", "other"),
        ("${NAME:-other}", "value"),
        ("0.0.0.0:${PORT:-80}", "0.0.0.0:8080"),
        ("${UNSET:-http://a:80}", "http://a:80"),
        ("$${NAME}", "${NAME}"),
        ("$$", "$"),
        ("$NAME", "$NAME"),
        ("'${NAME}'", "value"),
        ("${QUOTED}", "a: [b"),
        ("'  ${NAME} '", "value"),
    ],
)
def test_variable_is_filled_in(written: str, text: str) -> None:
    scalar = word(written)
    assert isinstance(scalar, Scalar)
    assert scalar.text == text


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("${UNSET}", ["UNSET is not set (set it, or write ${UNSET:-default})"]),
        (
            "${UNSET}${OTHER}",
            [
                "UNSET is not set (set it, or write ${UNSET:-default})",
                "OTHER is not set (set it, or write ${OTHER:-default})",
            ],
        ),
        (
            "${NAME",
            ["`${` is not a variable (write ${NAME} or ${NAME:-default}; $$ is a plain $)"],
        ),
        (
            "${1A}",
            ["`${1A}` is not a variable (write ${NAME} or ${NAME:-default}; $$ is a plain $)"],
        ),
        (
            "${UNSET:-${NAME}}",
            ["`${` is not a variable (write ${NAME} or ${NAME:-default}; $$ is a plain $)"],
        ),
    ],
)
def test_variable_without_a_value_is_a_problem(text: str, problems: list[str]) -> None:
    assert said(f"key: {text}") == [f"a.yaml:1:6: key: {problem}" for problem in problems]
    assert word(text) == Blank(Place(1, 6))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a.yaml:1:1: is empty (at least `upstreams:` is needed)"),
        ("# nothing\n", "a.yaml:1:1: is empty (at least `upstreams:` is needed)"),
        ("a: 1\nb: 2\na: 3", "a.yaml:3:1: a: is given twice (first on line 1; keep one)"),
        (
            "l:\n - a: 1\n   a: 2",
            "a.yaml:3:4: l[0].a: is given twice (first on line 2; keep one)",
        ),
        (
            "b: &b {c: 1}\na:\n  <<: *b",
            "a.yaml:3:3: a.<<: merge keys are not read "
            "(write the settings out, or alias a whole section with *name)",
        ),
        (
            "? [a]\n: 1",
            "a.yaml:1:3: has a key that is not a word (quote a key that begins with [ or {)",
        ),
        ("a: !!int 3", "a.yaml:1:4: a: has a tag (tags like !!str are not read)"),
        ("a: !!python/name:os.system x", "a.yaml:1:4: a: has a tag (tags like !!str are not read)"),
        (
            "a: 1\n---\nb: 1",
            "a.yaml:2:1: is not YAML: expected a single document in the stream, "
            "but found another document (keep one document: drop the second `---`)",
        ),
        (
            "a:\n\t- b",
            "a.yaml:2:1: is not YAML: while scanning for the next token, "
            "found character '\\t' that cannot start any token (indent with spaces, not tabs)",
        ),
        (
            "a: [${PORT}]",
            "a.yaml:1:6: is not YAML: while parsing a flow sequence, "
            "expected ',' or ']', but got '{' (inside [ ] or { } quote it: \"${NAME}\")",
        ),
        (
            "bind: [::]:80",
            "a.yaml:1:8: is not YAML: while parsing a flow node, expected the node content, "
            "but found ':' (quote an address in brackets: \"[::]:8080\")",
        ),
        (
            "host: *.org",
            "a.yaml:1:8: is not YAML: while scanning an alias, expected alphabetic or numeric "
            "character, but found '.' (quote a value that begins with * or &)",
        ),
        (
            "a: *b",
            "a.yaml:1:4: is not YAML: found undefined alias 'b' "
            "(quote a value that begins with * or &)",
        ),
        (
            "a: @b",
            "a.yaml:1:4: is not YAML: while scanning for the next token, found character '@' that "
            "cannot start any token (quote a value that begins with @, % or a backquote)",
        ),
        (
            "a: 1\n b: 2",
            "a.yaml:2:3: is not YAML: mapping values are not allowed here "
            "(does the line above lack its colon, or is this one indented too far?)",
        ),
        (
            "a: 'b\n",
            "a.yaml:2:1: is not YAML: while scanning a quoted scalar, found unexpected end of "
            "stream (look at the indentation, the space after each colon, "
            "and open quotes or brackets)",
        ),
        ("a: 1\nb: \x01", "a.yaml:2:4: has U+0001, which is not text (delete it)"),
    ],
)
def test_yaml_that_is_wrong_has_a_place_and_a_hint(text: str, problem: str) -> None:
    assert said(text) == [problem]


def test_both_values_of_a_key_given_twice_are_kept() -> None:
    tree = placed("a: 1\na: 2").tree
    assert isinstance(tree, Mapping)
    assert [(entry.key, entry.again) for entry in tree.entries] == [("a", False), ("a", True)]


def test_alias_stands_for_what_its_anchor_holds() -> None:
    document = placed("a: &x {b: 1}\nc: *x")
    assert document.problems == []
    assert isinstance(document.tree, Mapping)
    first, second = document.tree.entries
    assert first.value == second.value


def test_text_is_bounded() -> None:
    assert said("#" * MAX_TEXT) == ["a.yaml:1:1: is empty (at least `upstreams:` is needed)"]
    problem = f"a.yaml:1:1: is too long (at most {MAX_TEXT} characters are read)"
    assert said("#" * (MAX_TEXT + 1)) == [problem]


def test_depth_is_bounded() -> None:
    assert said("[" * (MAX_DEPTH - 1) + "a" + "]" * (MAX_DEPTH - 1)) == []
    deep = said("[" * 10_000)
    assert len(deep) == 1
    assert deep[0].startswith(f"a.yaml:1:{MAX_DEPTH}: is not YAML: it nests too deep")


def test_aliases_of_aliases_are_bounded() -> None:
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    laughs = "\n".join(["a0: &a0 [ha, ha]", *lines])
    assert said(laughs) == ["a.yaml:1:1: aliases make it endless (write the settings out instead)"]
    assert placed(laughs).tree is None


def test_alias_within_its_own_anchor_is_refused() -> None:
    assert said("a: &a [*a]") == [
        "a.yaml:1:1: aliases make it endless (write the settings out instead)"
    ]


def test_nodes_are_counted_to_the_last() -> None:
    # The root and its list are two; each alias writes out 100 items and the list of them.
    hundred = f"- &a [{', '.join('a' * 100)}]"
    fits = (MAX_NODES - 1) // 101
    assert said("\n".join([hundred, *["- *a"] * (fits - 1)])) == []
    assert len(said("\n".join([hundred, *["- *a"] * fits]))) == 1


def test_child_names_keys_and_places_in_lists() -> None:
    assert child("", "routes") == "routes"
    assert child("routes", 0) == "routes[0]"
    assert child("routes[0]", "host") == "routes[0].host"


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@`, \n\t${}?<~\x00\ud800\u2028\ufeff", max_size=60))
def test_any_text_is_a_tree_or_a_problem(text: str) -> None:
    document = placed(text)
    assert (document.tree is None) <= bool(document.problems)
    lines = text.count("\n") + text.count("\u2028") + 1
    assert all(1 <= problem.line <= lines + 1 for problem in document.problems)
