"""The layout of text files: found from the file as a whole, not from its first line."""

from __future__ import annotations

import codecs

import pytest

from fastbp.tables.sniffing import sniff


def layout(text: str, **options: str):
    return sniff(text.encode(), [], **options)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(delimiter: str) -> None:
    lines = [["size", "colour"], ["1", "red"], ["2.5e3", "dark blue"]]
    found = layout("\n".join(delimiter.join(line) for line in lines) + "\n")
    assert (found.delimiter, found.names, found.skip) == (delimiter, ("size", "colour"), 1)


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ('"length (mean; in m; by hand)",width,kind', ","),
        ('"a, b, c";"d, e";kind', ";"),
        ("length (a;b;c;d),width,kind", ","),
        ("length, in m, mean\twidth\tkind", "\t"),
        ('"a|b|c|d",width,kind', ","),
    ],
)
def test_the_rows_tell_the_delimiter_not_the_header(header: str, delimiter: str) -> None:
    body = "".join(f"{i}.5{delimiter}{i}{delimiter}uv\n" for i in range(20))
    found = layout(header + "\n" + body)
    assert found.delimiter == delimiter
    assert len(found.names) == 3


def test_commas_in_numbers_are_no_delimiter() -> None:
    found = layout("temp;wind;power\n1,5;2,3;4,1\n2,5;1,3;0,1\n")
    assert (found.delimiter, found.decimal, len(found.names)) == (";", ",", 3)
    found = layout("1,5;2,3\n2,5;1,3\n0,5;1,25\n")
    assert (found.delimiter, found.decimal, found.has_header) == (";", ",", False)


@pytest.mark.parametrize(
    ("text", "decimal"),
    [
        ("a;b\n1,5;2\n2,5;3\n", ","),
        ("a\tb\n1,5\t2\n2,25\t3\n", ","),
        ("a\tb\n1,234\t2\n12,345,678\t3\n", "."),
        ("a\tb\n1,234\t2\n2,345\t3\n", "."),  # thousands as likely
        ("a\tb\n0,234\t2\n2,345\t3\n", ","),
        ("a;b\n1,234;2\n2,345;3\n", ","),
        ("a;b\n1.5;x, y\n2.5;u, v\n", "."),
        ("a;b\nNA;2\n1,5;2\n", ","),
    ],
)
def test_decimal_mark(text: str, decimal: str) -> None:
    assert layout(text).decimal == decimal


@pytest.mark.parametrize(
    ("text", "has_header", "names"),
    [
        ("a,b\n1,x\n2,y\n", True, ("a", "b")),
        ("1,x\n2,y\n3,z\n", False, ("0", "1")),
        ("1,2\n3,4\n", False, ("0", "1")),
        ("0,1,2\n3.5,4,1\n6,7,2\n", True, ("0", "1", "2")),  # a frame's numbered columns
        ("town,2019,2020\nUlm,5,6\nBonn,7,8\n", True, ("town", "2019", "2020")),
        ("red,blue\nblue,red\n", True, ("red", "blue")),
        ("a,b\n", True, ("a", "b")),
        ("\n\n a , b \n1,2\n", True, ("a", "b")),
        ("a,b,\n1,2,\n3,4,\n", True, ("a", "b", "unnamed_1")),
        ("a,b\n1,2,\n3,4,\n", True, ("a", "b", "unnamed_1")),
        ("a,b,,\n1,2,,\n", True, ("a", "b", "unnamed_1", "unnamed_2")),
        ("a,b\nrow1,1,2\nrow2,3,4\n", True, ("unnamed_1", "a", "b")),
        (",a,b\n0,1,2\n1,3,4\n", True, ("unnamed_1", "a", "b")),
        ("a,b,,\n1,2\n3,4\n", True, ("a", "b")),
    ],
)
def test_header(text: str, has_header: bool, names: tuple[str, ...]) -> None:
    found = layout(text)
    assert (found.has_header, found.names) == (has_header, names)


def test_years_over_numbers_are_names() -> None:
    assert layout("2018,2019,2020\n5,6,7\n8,9,1\n").has_header


def test_a_note_of_the_delimiter() -> None:
    found = layout("sep=;\na;b\n1,5;2\n")
    assert (found.delimiter, found.names, found.skip) == (";", ("a", "b"), 2)


def test_a_header_over_several_lines() -> None:
    found = layout('"a\nin m",b\n1,2\n')
    assert (found.names, found.skip, found.breaks) == (("a\nin m", "b"), 2, True)


def test_quotes() -> None:
    assert layout('"a", "b, c"\n1, "x"\n').spaces
    assert not layout('a,"b"\n1,"x, y"\n').spaces
    assert layout("'a','b, c'\n1,'x'\n").quote == "'"
    assert layout("a,b\nit's,1\nthat's,2\n").quote == '"'


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("cp1252", "cp1252"),
    ],
)
def test_encodings(encoding: str, found: str) -> None:
    text = "größe,preis\n" + "1,2\n" * 50
    got = sniff(text.encode(encoding), [])
    assert got.encoding == found
    assert got.names == ("größe", "preis")


def test_a_sample_may_end_within_a_character() -> None:
    assert sniff("größe,b\n1,2\nü".encode()[:-1], []).encoding == "utf-8"


@pytest.mark.parametrize("gap", [" ", "   "])
def test_white_space_where_nothing_else_is_between_the_cells(gap: str) -> None:
    lines = [["size", "colour"], ["1", "red"], ["2.5", "blue"], ["3", "red"]]
    found = layout("\n".join(gap.join(line) for line in lines) + "\n")
    assert (found.delimiter, found.names) == (" ", ("size", "colour"))
    assert layout("a name\nx y\nz\nw\n").names == ("a name",)


def test_the_rest_of_the_file_counts() -> None:
    # The beginning could be either; the pieces from further on decide.
    pieces = [b"3\nx;y;u,1\nz;w;u,2\n" * 5]
    assert sniff(b"a;b;c\n", pieces).delimiter == ";"


@pytest.mark.parametrize("content", [b"", b"\n \n", codecs.BOM_UTF8])
def test_empty(content: bytes) -> None:
    with pytest.raises(ValueError, match="empty"):
        sniff(content, [])


def test_no_text() -> None:
    with pytest.raises(ValueError, match="no text"):
        sniff(bytes(range(256)) * 4, [])


def test_what_is_given_is_taken() -> None:
    found = layout("a|b,c\n1|2,3\n", delimiter="|", decimal=",", encoding="utf-8")
    assert (found.delimiter, found.decimal, found.names) == ("|", ",", ("a", "b,c"))
    with pytest.raises(ValueError, match="unknown encoding 'latin-99'"):
        layout("a,b\n1,2\n", encoding="latin-99")


def test_whole_numbers_with_leading_zeros_are_text() -> None:
    assert layout("zip,x,t\n01067,1,0.5\n80331,2,0.25\n").codes == {"zip"}
