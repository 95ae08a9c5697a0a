"""Lists in every form: the same images and classes come of each, and what is wrong is told with its line."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from folders import put
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data import dataset as datasets
from breadcrumbs.training.data import list_rows
from breadcrumbs.training.data.dataset import DataError

ROWS = [("a 1.png", "white oak"), ("sub/b,2.png", "elm"), ("c'3.png", "white oak"), ("ü.png", "elm")]
NUMBERS = {"elm": 0, "white oak": 1}


def load(source: Path, **more: Any) -> datasets.Data:
    return datasets.load(TrainConfig(data=str(source), **more))


def told(source: Path, **more: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(source, **more)
    return str(caught.value)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with the pictures of `ROWS`."""
    put(tmp_path, *(path for path, _ in ROWS))
    return tmp_path


def table(rows: list[tuple[str, str]], header: tuple[str, str], delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows([header, *rows])
    return text.getvalue()


def objects(rows: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"path": path, "Class": label} for path, label in rows]


def coco(rows: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "info": {},
        "images": [{"id": 100 - number, "file_name": path} for number, (path, _) in enumerate(rows)],
        "categories": [{"id": 7, "name": "white oak"}, {"id": 3, "name": "elm"}, {"id": 9, "name": "unused"}],
        "annotations": [
            {"id": number, "image_id": 100 - number, "category_id": {"white oak": 7, "elm": 3}[label]}
            for number, (_, label) in enumerate(rows)
        ],
    }


FORMS = {
    "tabs.txt": lambda rows: "".join(f"{path}\t{label}\n" for path, label in rows),
    "lines.txt": lambda rows: "".join(f'"{path}" {label.replace(" ", "-")}\n' for path, label in rows),
    "bare.csv": lambda rows: "\n".join(f'"{path}",{label}' for path, label in rows),
    "table.csv": lambda rows: table(rows, ("file_name", "label"), ","),
    "table.tsv": lambda rows: table(rows, ("File Name", "CATEGORY"), "\t"),
    "semicolons.csv": lambda rows: table(rows, ("image", "class_name"), ";"),
    "metadata.jsonl": lambda rows: "\n".join(json.dumps(one) for one in objects(rows)) + "\n\n",
    "list.json": lambda rows: json.dumps(objects(rows), indent=1),
    "coco.json": lambda rows: json.dumps(coco(rows)),
}
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)
KEYS = st.sampled_from(["images", "annotations", "categories", "path", "label", "id", "name", "file_name"])
ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_images(pictures: Path, form: str, ends: str, encoding: str) -> None:
    """With a byte order mark or without, with line ends of any kind; as training list and as test list."""
    text = FORMS[form](ROWS).replace("\r\n", "\n").replace("\n", ends)
    (pictures / form).write_bytes(text.encode(encoding))
    (pictures / f"test-{form}").write_bytes(FORMS[form](ROWS[:1]).encode())
    put(pictures, "other/a 1.png")

    alone = datasets.images(TrainConfig(data=str(pictures / form)))
    with_test = told(pictures / form, test_data=str(pictures / f"test-{form}"))

    assert [Path(str(path)).relative_to(pictures).as_posix() for path in alone.split.paths or ()] == [
        path for path, _ in ROWS
    ]
    assert [alone.classes[label].replace("-", " ") for label in alone.split.labels] == [label for _, label in ROWS]
    assert alone.classes == tuple(sorted(alone.classes))
    assert "a 1.png: listed twice" in with_test
    assert with_test.startswith("1 problem ")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other", FORMS)
def test_a_test_list_may_have_another_form(pictures: Path, form: str, other: str) -> None:
    """The classes are matched by name, whatever classes the test list lacks."""
    rows = [(path, label.replace(" ", "-")) for path, label in ROWS]  # the lines' labels have no space
    (pictures / form).write_text(FORMS[form](ROWS if "coco" in form else rows))
    put(pictures, "t.png")
    name = "elm" if "coco" in form + other else "white-oak"
    (pictures / f"test-{other}").write_text(FORMS[other]([("t.png", name)]))

    data = load(pictures / form, test_data=str(pictures / f"test-{other}"))

    assert [data.classes[label] for label in data.test.labels] == [name]


@pytest.mark.parametrize("form", ["table.csv", "table.tsv", "metadata.jsonl"])
def test_numbers_under_a_header_are_names_in_their_order(pictures: Path, form: str) -> None:
    """10 after 9, gaps or not; a number that pandas wrote with a point is the same."""
    names = ["10", "9", "10.0", "9"]
    (pictures / form).write_text(FORMS[form]([(path, name) for (path, _), name in zip(ROWS, names, strict=True)]))

    found = datasets.images(TrainConfig(data=str(pictures / form)))

    assert found.classes == ("9", "10")
    assert found.split.labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("form", [name for name in FORMS if name != "coco.json"])
def test_classnames_beside_a_list_name_its_numbers(pictures: Path, form: str) -> None:
    """In every form in which labels may be numbers."""
    (pictures / "classnames.txt").write_bytes("elm\r\nwhite oak\r\n".encode("utf-8-sig"))
    (pictures / form).write_text(FORMS[form]([(path, str(NUMBERS[label])) for path, label in ROWS]))

    found = datasets.images(TrainConfig(data=str(pictures / form)))

    assert found.classes == ("elm", "white oak")
    assert found.split.labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("TRAIN", "Validation"), ("training", "val")])
def test_a_list_may_have_parts(pictures: Path, train: str, test: str) -> None:
    """In a column, by all names of parts; rows without one are said."""
    parts = [train, train, test, ""]
    rows = [f"{json.dumps(path)},{label},{part}" for (path, label), part in zip(ROWS, parts, strict=True)]
    (pictures / "all.csv").write_text("\n".join(["file_name,label,split", *rows]))

    data = load(pictures / "all.csv")

    assert (len(data.train), len(data.test)) == (2, 1)
    assert data.notes == ("not used: 1 images without a split",)


def test_coco_says_what_it_does_not_use(pictures: Path) -> None:
    """Categories without images are no classes; images without an annotation are not used."""
    whole = coco(ROWS)
    whole["images"].append({"id": 5, "file_name": "nobody.png"})
    (pictures / "coco.json").write_text(json.dumps(whole))

    found = datasets.images(TrainConfig(data=str(pictures / "coco.json")))

    assert found.classes == ("elm", "white oak")
    assert found.notes == (
        "not used: 1 images without an annotation in coco.json",
        "not used: 1 categories without an image in coco.json",
    )


def test_paths_as_windows_writes_them(pictures: Path) -> None:
    """Backslashes are slashes, unless a file has that name; an absolute path is one."""
    put(pictures, "back\\slash.png")
    lines = ["sub\\b,2.png\telm", "back\\slash.png\toak", f"{pictures / 'a 1.png'}\toak"]
    (pictures / "list.tsv").write_text("\n".join(lines))

    found = datasets.images(TrainConfig(data=str(pictures / "list.tsv")))

    assert [str(path) for path in found.split.paths or ()] == [
        str(pictures / name) for name in ("sub/b,2.png", "back\\slash.png", "a 1.png")
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "x.csv",
            "file_name,text\na.png,words",
            "columns file_name, text, none for the label; expected one of",
        ),
        ("x.csv", "label,id\noak,1", "columns label, id, none for the path; expected one of file_name"),
        ("x.csv", "file_name,label\na.png,oak,1", "x.csv:2: expected 2 columns as in the header"),
        ("x.csv", "file_name,label\na.png", "x.csv:2: expected 2 columns as in the header"),
        ("x.csv", "file_name,label\n,oak", "x.csv:2: expected a path under one of file_name"),
        ("x.csv", "file_name,label\na.png,", "x.csv:2: expected one class under one of class_name"),
        ("x.csv", 'file_name,label\n"a.png,oak', "x.csv:2: unexpected end of data; quote a cell"),
        ("x.csv", "file_name,label,split\na.png,oak,later", "split 'later': expected train, validation or test"),
        ("x.csv", "file_name,label,split\na.png,oak,test", "no row has the split train; there are test"),
        ("x.csv", "file_name,label\n", "names no image; expected 'path label' lines, or CSV that begins with"),
        ("x.txt", "", "names no image"),
        ("x.txt", "a.png oak\nmy photo.jpg", "x.txt:2: expected 'path label', got 'my photo.jpg'"),
        ("x.txt", "a.png\toak\nb.png elm", "x.txt:2: expected 'path\tlabel', got 'b.png elm'"),
        (
            "x.txt",
            "a.png 0\nb.png oak",
            "x.txt:2: label 'oak' is not a whole number like that of line 1, 0; expected",
        ),
        ("x.txt", "a\x01.png oak\nb.png elm", "x.txt:1: the path has a control character or half a letter: 'a\\x01"),
        ("x.jsonl", '{"path": "a.png", "label": "oak"}\n{"path": ', "x.jsonl:2: not a JSON object"),
        ("x.jsonl", '{"path": "a.png", "label": ["oak"]}', "x.jsonl:1: expected one class under one of"),
        ("x.jsonl", '{"path": "a.png", "label": true}', "x.jsonl:1: expected one class under one of"),
        ("x.jsonl", '{"path": "\\ud800.png", "label": "oak"}', "x.jsonl:1: the path has a control character or half"),
        ("x.jsonl", '{"path": "a.png", "label": "\\ud800"}', "class '\\ud800' is not Unicode text"),
        ("x.jsonl", '{"path": 1, "label": "oak"}', "x.jsonl:1: expected a path under one of"),
        ("x.json", "[{}, 2]", 'x.json:2: expected an object as {"file_name": "a.jpg", "label": "oak"}'),
        ("x.json", '{"images": [], "annotations": []}', "'categories' is nothing"),
        ("x.json", "[" * 100_000, "x.json"),
        ("x.txt", "a.png oak\0", "is not a list file: it is not text; unpack an archive first"),
    ],
)
def test_what_is_wrong_with_a_list_is_told(tmp_path: Path, name: str, text: str, message: str) -> None:
    """With the line, what came and what to write."""
    (tmp_path / name).write_text(text)

    assert message in told(tmp_path / name)


def test_a_list_in_another_encoding_is_told(tmp_path: Path) -> None:
    """And how to save it."""
    (tmp_path / "x.csv").write_bytes("file_name,label\na.png,Erd\u00e4pfel\n".encode("latin-1"))

    assert told(tmp_path / "x.csv").endswith("is not a list file: it is not text in UTF-8; save it as UTF-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["annotations"].append({"image_id": 100, "category_id": 3}),
            "is 'white oak' and 'elm'; a picture here",
        ),
        (
            lambda c: c["annotations"].append({"image_id": 1, "category_id": 3}),
            "an annotation is of image 1, which",
        ),
        (lambda c: c["annotations"].append({"image_id": 100, "category_id": 1}), "has category 1, which is not there"),
        (lambda c: c["categories"].append({"id": 8, "name": "elm"}), "2 categories have the name 'elm'"),
        (lambda c: c["categories"].append({"id": 3, "name": "ash"}), "2 categories have the id 3"),
        (lambda c: c["categories"].append({"id": "x", "name": "ash"}), "expected a number as id, and a name"),
        (lambda c: c["images"].append({"id": 7}), "image 7: expected file_name, got None"),
    ],
)
def test_what_is_wrong_with_coco_is_told(pictures: Path, change: Any, message: str) -> None:
    """By the numbers that it has."""
    whole = coco(ROWS)
    change(whole)
    (pictures / "coco.json").write_text(json.dumps(whole))

    assert message in told(pictures / "coco.json")


def test_all_bad_lines_are_told_at_once(tmp_path: Path) -> None:
    """The first of them, and how many there are."""
    (tmp_path / "x.csv").write_text("file_name,label\n" + "a.png,\n" * 1000)

    lines = told(tmp_path / "x.csv").splitlines()

    assert lines[0] == f"1000 problems in {tmp_path / 'x.csv'}:"
    assert len(lines) == 22
    assert lines[-1] == "… and 980 more"


def test_missing_files_are_told_with_where_paths_lead(pictures: Path) -> None:
    """How many, the first of them, and the remedy."""
    lines = [f"gone/{number}.png\telm" for number in range(50)]
    (pictures / "x.tsv").write_text("\n".join([*(f"{path}\t{label}" for path, label in ROWS), *lines]))

    error = told(pictures / "x.tsv")

    assert error.startswith("50 problems in the data:\n")
    assert error.endswith(f"paths in a list are relative to its folder, {pictures}; --images names another")


def test_a_class_of_names_unknown_to_training_is_told(pictures: Path) -> None:
    """In the test list, by line."""
    (pictures / "train.csv").write_text(table(ROWS, ("path", "label"), ","))
    (pictures / "test.csv").write_text("path,label\nt.png,yew\n")

    error = told(pictures / "train.csv", test_data=str(pictures / "test.csv"))

    assert "test.csv:2: label 'yew' is not known; expected a name of a class: elm, white oak" in error


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).map(
                lambda t: f"d/{t}.png"
            ),
            st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1),
        ),
        min_size=1,
    ),
    delimiter=st.sampled_from([",", "\t", ";"]),
    ends=st.sampled_from(["\n", "\r\n"]),
)
def test_a_table_is_read_as_it_was_written(
    tmp_path: Path, rows: list[tuple[str, str]], delimiter: str, ends: str
) -> None:
    """Whatever letters, quotes and delimiters are in its cells."""
    text = table(rows, ("path", "label"), delimiter).replace("\r\n", ends)
    (tmp_path / "x.csv").write_bytes(text.encode())

    found = list_rows.read(tmp_path / "x.csv")

    assert [(row.path, row.label) for row in found.rows] == rows
    assert found.named


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary() | st.text().map(str.encode) | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_told(tmp_path: Path, data: bytes) -> None:
    """And nothing else."""
    (tmp_path / "x.txt").write_bytes(data)
    try:
        found = datasets.images(TrainConfig(data=str(tmp_path / "x.txt")))
    except DataError:
        return

    assert len(found.split) > 0
