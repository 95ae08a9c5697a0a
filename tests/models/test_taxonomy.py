"""Taxonomies: both forms, what is refused, and the deepest sure node against sums by hand."""

import csv
import io
import itertools
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_head

from breadcrumbs.models.lineages import HeadLineages, Lineages, SureNode
from breadcrumbs.models.taxonomy import DEEPEST, Node, TaxonomyError, parse, renamed

COLUMNS = b"class,genus,family\nLynx lynx,Lynx,Felidae\nFelis catus,Felis,Felidae\nVulpes vulpes,Vulpes,Canidae\n"
LINKS = (
    b"child,parent\nLynx lynx,Lynx\nFelis catus,Felis\nVulpes vulpes,Vulpes\n"
    b"Lynx,Felidae\nFelis,Felidae\nVulpes,Canidae\nFelidae,Carnivora\nCanidae,Carnivora\n"
)
CATS = ("Lynx lynx", "Felis catus", "Vulpes vulpes")


def table(header: list[str], rows: list[list[str]], separator: str = ",") -> bytes:
    file = io.StringIO()
    csv.writer(file, delimiter=separator).writerows([header, *rows])
    return file.getvalue().encode()


def test_both_forms_give_the_lineages() -> None:
    """Ranks are the columns, or how deep a group lies."""
    columns, links = parse(COLUMNS), parse(LINKS)

    assert columns.ranks == ("genus", "family")
    assert columns.lineage("Lynx lynx") == (
        Node("Lynx lynx", "class"), Node("Lynx", "genus"), Node("Felidae", "family"),
    )  # fmt: skip
    assert links.ranks == ("depth 2", "depth 1", "depth 0")
    assert [node.name for node in links.lineage("Vulpes vulpes")] == ["Vulpes vulpes", "Vulpes", "Canidae", "Carnivora"]
    assert [node.rank for node in links.lineage("Vulpes vulpes")] == ["class", "depth 2", "depth 1", "depth 0"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_files_of_spreadsheets_are_read(separator: str, mark: bytes) -> None:
    """Any of three separators, a byte order mark, empty lines, quoted names, spaces around them."""
    data = mark + table(["Class", "genus"], [["oak, red", " Quercus "], [], ["elm", "Ulmus"]], separator)

    assert {name: own[1].name for name, own in parse(data).lineages.items()} == {"oak, red": "Quercus", "elm": "Ulmus"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "expected a header and a row"),
        (b"class,genus\n", "expected a header and a row"),
        (b"\xff\xfe\x00", "expected UTF-8, got byte 0xff at 0"),
        (b"name,genus\na,b\n", "expected the columns class and its ranks, or child and parent, got 'name', 'genus'"),
        (b"class\na\n", "expected the columns class and its ranks"),
        (b"class,genus,genus\na,b,c\n", "two columns have one name"),
        (b"class,genus\na,b,c\n", "row 2 has 3 cells; expected 2"),
        (b"class,genus\na,\n", "row 2, genus: the cell is empty"),
        (b"class,genus\na,b\x1b[2J\n", "control character"),
        (b"class,genus\na,b\na,c\n", "'a' is in 'b' and in 'c'; expected one of both"),
        (b"class,genus,family\na,b,c\nd,b,e\n", "'b' is in 'c' and in 'e'; expected one of both"),
        (b"child,parent\na,b\nb,a\n", "the rows go in a circle: 'a' in 'b' in 'a'"),
        (b"child,parent\na,a\n", "the rows go in a circle: 'a' in 'a'"),
        (b"child,parent\nx,a\na,b\nb,c\nc,a\n", "the rows go in a circle: 'a' in 'b' in 'c' in 'a'"),
        (b'class,genus\n"a,b\n', "expected"),
    ],
)
def test_what_is_no_taxonomy_is_refused(data: bytes, words: str) -> None:
    """Each in one sentence that says where."""
    with pytest.raises(TaxonomyError, match=re.escape(words)) as error:
        parse(data)

    assert "\n" not in str(error.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Never anything else."""
    try:
        parse(data)
        parse(b"class,genus\n" + data)
    except TaxonomyError:
        pass


def test_a_class_without_a_place_is_told_with_near_names() -> None:
    """A composed name and its parts are one name."""
    taxonomy = parse("class,genus\nFagus sylvatica,Fagus\nBärenklau,Heracleum\n".encode())

    taxonomy.check(["Fagus sylvatica", unicodedata.normalize("NFD", "Bärenklau")])
    with pytest.raises(TaxonomyError, match=r"class 'Fagus silvatica' of 1 has no place: .* 'Fagus sylvatica'"):
        taxonomy.check(["Fagus silvatica"])


@pytest.mark.parametrize("data", [COLUMNS, LINKS])
def test_classes_that_a_refit_renames_merges_and_removes(data: bytes) -> None:
    """Keep, lose or hand over their place; where nothing changes, no byte does."""
    assert renamed(data, {"Lynx lynx": "Lynx lynx"}) is data
    found = parse(renamed(data, {"Lynx lynx": "Luchs", "Felis catus": "Luchs", "Vulpes vulpes": None}))

    assert [node.name for node in found.lineage("Luchs")][1] == "Lynx"
    assert "Felis catus" not in found.lineages
    assert "Vulpes vulpes" not in found.lineages


@pytest.mark.parametrize(
    ("became", "name"), [({"dog": "Hund"}, "Hund"), ({"dog": None}, "dog"), ({"dog": "cat"}, "dog"), ({}, "dog")]
)
def test_a_group_that_is_a_class_keeps_what_is_below_it(became: dict[str, str | None], name: str) -> None:
    """Renamed, it is renamed in its parts too; removed or merged, it is still their group."""
    found = parse(renamed(b"child,parent\nbeagle,dog\ndog,animal\ncat,animal\n", became))

    assert [node.name for node in found.lineage("beagle")] == ["beagle", name, "animal"]


def test_swapped_names_swap_places() -> None:
    """Each class takes its place along."""
    found = parse(renamed(COLUMNS, {"Lynx lynx": "Vulpes vulpes", "Vulpes vulpes": "Lynx lynx"}))

    assert found.lineage("Vulpes vulpes")[1].name == "Lynx"
    assert found.lineage("Lynx lynx")[1].name == "Vulpes"


@given(st.data())
def test_the_deepest_sure_node_is_the_first_whose_sum_is_enough(data: st.DataObject) -> None:
    """Drawn trees, probabilities and confidences; sums by hand. Both forms agree."""
    count = data.draw(st.integers(2, 12))
    genus = [data.draw(st.integers(0, 5)) for _ in range(count)]
    names = [f"class {place}" for place in range(count)]
    rows = [[name, f"genus {own}", f"family {own % 2}"] for name, own in zip(names, genus, strict=True)]
    links = sorted({(low, high) for row in rows for low, high in itertools.pairwise(row)})
    probabilities = np.array(data.draw(st.lists(st.integers(1, 9), min_size=count, max_size=count)), float)
    probabilities /= probabilities.sum()
    confidence = data.draw(st.floats(0.01, 1))
    best = int(probabilities.argmax())

    sums = [
        sum(p for p, row in zip(probabilities, rows, strict=True) if row[rank] == rows[best][rank]) for rank in range(3)
    ]
    enough = [rank for rank in range(3) if sums[rank] >= confidence - 1e-9]
    by_columns = Lineages(parse(table(["class", "genus", "family"], rows)), names)
    by_links = Lineages(parse(table(["child", "parent"], [list(link) for link in links])), names)

    for lineages, ranks in ((by_columns, ("class", "genus", "family")), (by_links, ("class", "depth 1", "depth 0"))):
        found = lineages.deepest(probabilities, best, confidence)
        if not enough:
            assert found is None
        else:
            rank = enough[0]
            assert found == SureNode(rows[best][rank], ranks[rank], pytest.approx(sums[rank]))


def test_a_class_without_a_place_is_a_lineage_of_its_own() -> None:
    """As one that a refit has added."""
    lineages = Lineages(parse(COLUMNS), [*CATS, "new"])

    assert lineages.deepest(np.array([0.1, 0.1, 0.1, 0.7]), 3, 0.7) == SureNode("new", "class", pytest.approx(0.7))
    assert lineages.deepest(np.array([0.1, 0.1, 0.1, 0.7]), 3, 0.8) is None
    assert len(set(lineages.groups("family").tolist())) == 3


def test_a_class_that_was_renamed_has_the_place_of_its_old_name() -> None:
    """Unless the new name has a place of its own; of merged classes the first counts."""
    became = {"Lynx lynx": "Luchs", "Felis catus": "Luchs", "Vulpes vulpes": None}
    lineages = Lineages(parse(COLUMNS), ["Luchs", "Vulpes vulpes"], became)

    assert lineages.deepest(np.array([0.6, 0.4]), 0, 0.6) == SureNode("Luchs", "class", pytest.approx(0.6))
    assert lineages.groups("family").tolist() == [0, 1]
    kept = Lineages(parse(COLUMNS), ["Felis catus", "Vulpes vulpes"], {"Vulpes vulpes": "Felis catus"})
    assert kept.groups("family").tolist() == [0, 1]
    lone = Lineages(parse(COLUMNS), ["Luchs", "Rotluchs"], {"Lynx lynx": "Luchs"})
    assert lone.deepest(np.array([0.6, 0.4]), 0, 0.9) is None
    assert Lineages(parse(COLUMNS), ["Luchs"], became).groups("genus").tolist() == [0]


def test_a_class_that_is_a_group_is_as_probable_as_all_of_it() -> None:
    """`dog` is a class, and the beagle is a dog."""
    taxonomy = parse(b"child,parent\nbeagle,dog\ndog,animal\ncat,animal\n")
    lineages = Lineages(taxonomy, ["dog", "beagle", "cat"])

    assert lineages.deepest(np.array([0.5, 0.3, 0.2]), 0, 0.8) == SureNode("dog", "depth 1", pytest.approx(0.8))


def test_ten_thousand_classes_with_long_names() -> None:
    """Read, checked and asked."""
    names = [f"Ünusually long name of a species {place:027d}" for place in range(10_000)]
    taxonomy = parse(table(["class", "genus", "all"], [[name, f"g{i % 100}", "all"] for i, name in enumerate(names)]))
    taxonomy.check(names)
    lineages = HeadLineages(taxonomy).of(tiny_head(1, tuple(names)), {})

    assert lineages.deepest(np.full(10_000, 1e-4), 7, 0.01) == SureNode("g7", "genus", pytest.approx(0.01))
    assert lineages.deepest(np.full(10_000, 1e-4), 7, 1.0) == SureNode("all", "all", pytest.approx(1))


@pytest.mark.parametrize("deep", [DEEPEST, DEEPEST + 1, 100_000])
def test_a_chain_of_links_is_so_deep_at_most(deep: int) -> None:
    """No recursion, and no memory beyond the file's."""
    data = table(["child", "parent"], [[str(depth), str(depth + 1)] for depth in range(deep)])

    if deep <= DEEPEST:
        assert len(parse(data).ranks) == deep
    else:
        with pytest.raises(TaxonomyError, match=f"more than {DEEPEST} groups are above"):
            parse(data)
