"""The names of the classes as a start: words from a file, a text tower, and what becomes of both in a bundle."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from small_run import CLASSES
from two_tower_models import SIDE, WIDTH, write_open_clip, write_transformers

from breadcrumbs.models.bundle import Bundle, read
from breadcrumbs.models.networks import BackboneError
from breadcrumbs.training.adopt.adopt import adopt
from breadcrumbs.training.adopt.class_text import TEMPLATES, read_words, sentences
from breadcrumbs.training.adopt.config import AdoptConfig
from breadcrumbs.training.adopt.opened import AdoptError
from breadcrumbs.training.adopt.source import open_source
from breadcrumbs.training.adopt.two_towers import kind_of, open_towers
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit.files import run as refit

ABSENT = "Ein sehr langer Name für eine Klasse, die noch kein Bild hat 🦊"


@pytest.fixture(scope="session")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of open_clip."""
    pytest.importorskip("open_clip")
    return write_open_clip(tmp_path_factory.mktemp("towers"))


@pytest.fixture(scope="session")
def named(images: Path, towers: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose head starts from names, with a class that has no image; nobody may change it."""
    out = tmp_path_factory.mktemp("named")
    words = out / "words.csv"
    words.write_text(f'class,text\n{CLASSES[0]},running shoe\n"{ABSENT}",red fox\n"{ABSENT}",vixen\n')
    config = AdoptConfig(data=str(images), class_names=("a {}", "one {}"), class_text=words)
    return adopt(f"local-dir:{towers}", config, out / "run", cache, spec=RefitSpec(members=("plain",)))


@given(names=st.lists(st.text("ab_ü", min_size=1), min_size=1, unique=True), templates=st.lists(st.just("a {}, {}")))
def test_a_name_is_put_into_every_sentence(names: list[str], templates: list[str]) -> None:
    """With spaces for underscores, wherever the sentence has its mark; other words stand for the name."""
    plain = sentences(names, {}, (*TEMPLATES, *templates))
    other = sentences(names, {names[0]: ("x", "y_z")}, TEMPLATES)

    assert plain == [[t.replace("{}", name.replace("_", " ")) for t in (*TEMPLATES, *templates)] for name in names]
    assert other[0] == ["a photo of a x", "a photo of a y_z"]
    assert other[1:] == [["a photo of a " + name.replace("_", " ")] for name in names[1:]]


def test_a_class_may_have_several_words(tmp_path: Path) -> None:
    """Columns are found by their names, commas may be quoted, and a byte order mark is no part of a name."""
    path = tmp_path / "words.csv"
    path.write_text('text,class\n"cat, sitting",Katze\nkitten,Katze\ndog,Hund\n', encoding="utf-8-sig")

    assert read_words(path) == {"Katze": ("cat, sitting", "kitten"), "Hund": ("dog",)}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "first line"),
        (b"name,words\na,b\n", "first line"),
        (b"class,text\na\n", "line 2"),
        (b"class,text\na,b,c\n", "quoted"),
        (b"class,text\n,b\n", "line 2"),
        (b"class,text\na,\xff\n", "UTF-8"),
        (b"class,text\n" + b"a" * 300 + b",b\n", "at most 255"),
        (b"class,text\na\x07b,c\n", "rename"),
        (b'class,text\n"' + b"a" * 200_000 + b'",b\n', "CSV"),
    ],
)
def test_a_file_that_is_no_list_of_words_is_refused(data: bytes, why: str, tmp_path: Path) -> None:
    """In a sentence that says what was expected."""
    path = tmp_path / "words.csv"
    path.write_bytes(data)

    with pytest.raises(AdoptError, match=why):
        read_words(path)


def test_a_missing_file_of_words_is_told(tmp_path: Path) -> None:
    """By its flag and name."""
    with pytest.raises(AdoptError, match="--class-text"):
        read_words(tmp_path / "none.csv")


def test_a_sentence_without_a_place_for_the_name_is_refused() -> None:
    """When the settings are made."""
    with pytest.raises(ValidationError, match="where the name belongs"):
        AdoptConfig(class_names=("a photo",))


@pytest.mark.parametrize("backbone", ["resnet10", "backbone.onnx", "local-dir:nowhere"])
def test_a_backbone_without_a_text_tower_is_told(backbone: str) -> None:
    """With what could be named instead."""
    with pytest.raises(AdoptError, match=r"no text tower.*open_clip"):
        open_source(backbone, AdoptConfig(), texts=True)


def test_a_missing_library_is_told(towers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""
    monkeypatch.setitem(sys.modules, "open_clip", None)

    with pytest.raises(AdoptError, match=r"breadcrumbs-longtail\[text\]"):
        open_towers(f"local-dir:{towers}")


def test_damaged_weights_are_told(towers: Path, tmp_path: Path) -> None:
    """In a sentence, not by a traceback."""
    for path in towers.iterdir():
        (tmp_path / path.name).write_bytes(
            path.read_bytes()[:500] if path.suffix == ".safetensors" else path.read_bytes()
        )

    with pytest.raises(BackboneError, match="could not be loaded"):
        open_towers(f"local-dir:{tmp_path}")


def test_another_size_is_refused(towers: Path) -> None:
    """The towers take the images that they were made for."""
    with pytest.raises(AdoptError, match="leave --size out"):
        open_source(f"local-dir:{towers}", AdoptConfig(size=2 * SIDE), texts=True)


def test_open_clip_gives_what_the_library_gives(towers: Path) -> None:
    """Features and texts are normalised, and their product times the scale is the model's own answer."""
    import open_clip

    model = open_clip.create_model_from_pretrained(f"local-dir:{towers}", return_transform=False).eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{towers}")
    texts = ["a photo of a cat", "Ünicode"]
    images = torch.rand(3, 3, SIDE, SIDE)

    backbone, tower = open_towers(f"local-dir:{towers}")
    rows = tower.rows([[text] for text in texts])
    with torch.no_grad():
        expected, _ = model.get_logits(images, tokens(texts))
        found = backbone.network.eval()(images) @ torch.from_numpy(rows).T

    assert backbone.feature_dim == WIDTH
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_transformers_gives_what_the_library_gives(kind: str, tmp_path: Path) -> None:
    """The same of a folder of transformers; SigLIP's own bias is one number for all classes."""
    transformers = pytest.importorskip("transformers")
    folder = write_transformers(tmp_path, kind)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["a cat", "the dog"]
    images = torch.rand(3, 3, SIDE, SIDE)

    backbone, tower = open_towers(f"local-dir:{folder}")
    with torch.no_grad():
        tokens = tokenizer(texts, padding="max_length", max_length=24, return_tensors="pt")
        expected = model(pixel_values=images, **tokens).logits_per_image
        found = backbone.network.eval()(images) @ torch.from_numpy(tower.rows([[text] for text in texts])).T
    apart = (expected - found).numpy()

    assert kind_of(f"local-dir:{folder}") == "transformers"
    assert np.ptp(apart) < 1e-4


def test_a_class_without_images_is_a_class_of_the_head(named: Bundle) -> None:
    """It is predicted where its words point, and the report says that it is known by them alone."""
    head, start = named.head(), named.named_head()
    assert start is not None
    report = (named.folder / "report" / "head.json").read_text()
    apart = (head.weight[-1] - head.weight[:-1]).astype(np.float64)  # (C − 1, D)
    where = 1e6 * np.linalg.lstsq(apart, np.ones(len(apart)))[0]  # the class without images wins by 1e6 (D,)

    assert named.manifest.classes == (*CLASSES, ABSENT)
    assert named.manifest.train_counts[-1] == 0
    assert head.logits(where[None].astype(np.float32)).argmax() == len(CLASSES)
    assert np.allclose(
        head.weight[-1] / np.linalg.norm(head.weight[-1]), start.weight[-1] / np.linalg.norm(start.weight[-1])
    )
    assert "known by their names alone" in report
    assert "chosen by cross-validation" in report


def test_words_and_templates_are_averaged(named: Bundle, towers: Path) -> None:
    """A row is the mean of the normalised features of all its sentences, as long as the model's scale."""
    _, tower = open_towers(f"local-dir:{towers}")
    start = named.named_head()
    assert start is not None

    expected = tower.rows([["a red fox", "one red fox", "a vixen", "one vixen"]])

    assert np.allclose(start.weight[-1], expected[0], atol=1e-4)
    assert np.allclose(np.linalg.norm(start.weight, axis=1), tower.scale, rtol=1e-4)


def test_a_refit_starts_from_the_names_again(named: Bundle, tmp_path: Path) -> None:
    """Without the text tower: the bundle carries what it said, also into the next bundle, under new names."""
    refit(named.folder, None, [], None, RefitSpec(members=("plain",), classes={ABSENT: "fox"}), tmp_path)
    again = read(tmp_path / "bundle")
    start, before = again.named_head(), named.named_head()
    assert start is not None
    assert before is not None

    assert again.manifest.classes[-1] == "fox"
    assert np.array_equal(start.weight, before.weight)
    assert np.linalg.norm(again.head().weight[-1]) > 0
