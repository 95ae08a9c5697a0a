"""`predict --prior --classes --confidence`: the same here and at a server, and one sentence for what cannot be."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from running import make_settings, running
from tiny import picture, png, tiny_known, tiny_snapshot

from breadcrumbs.classify.classify import Source, classify, show
from breadcrumbs.classify.conditions import Conditions
from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import known as knowns
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.snapshots import snapshot as snapshots

TREE = b"class,kind,all\noak,broadleaf,tree\nelm,broadleaf,tree\nWollemia nobilis,conifer,tree\n"


@pytest.fixture(scope="module")
def treed(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with a taxonomy, with rows, and with points to tell what is known by."""
    files = {name: (tiny_bundle.folder / name).read_bytes() for name in tiny_bundle.manifest.files}
    folder = tmp_path_factory.mktemp("tree") / "bundle"
    more = {
        bundles.KNOWN: knowns.to_bytes(tiny_known(), tiny_bundle.head().digest),
        "snapshots/epoch-0002.safetensors": snapshots.to_bytes(tiny_snapshot(tiny_bundle.backbone_digest)),
    }
    return bundles.write(folder, tiny_bundle.manifest, files | {"taxonomy.csv": TREE, **more})


@pytest.fixture(scope="module")
def server(treed: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server of it, with a prior."""
    with running(make_settings(treed, tmp_path_factory.mktemp("store"))) as client:
        client.put("/v1/priors/some", json={"classes": ["oak", "elm"]}).raise_for_status()
        yield client


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Three pictures."""
    for seed in range(3):
        (tmp_path / f"{seed}.png").write_bytes(png(picture(seed)))
    return [tmp_path]


@pytest.mark.parametrize("classes", [(), ("oak",), ("elm", "Wollemia nobilis")])
@pytest.mark.parametrize("confidence", [None, 0.01, 1.0])
def test_a_bundle_answers_as_its_server_does(
    treed: Bundle, server: httpx.Client, images: list[Path], classes: tuple[str, ...], confidence: float | None
) -> None:
    """Classes, probabilities and nodes."""
    asked = Conditions(classes=classes, confidence=confidence)
    here, there = (
        classify(images, source, 3, None, asked).kept
        for source in (Source(treed.folder, "", None), Source(None, str(server.base_url), None))
    )

    for one, other in zip(here, there, strict=True):
        assert [own["class"] for own in one.classes] == [own["class"] for own in other.classes]
        assert not classes or {own["class"] for own in one.classes} == set(classes)
        assert one.node is not None
        assert other.node is not None
        assert (one.node.name, one.node.rank) == (other.node.name, other.node.rank)
        assert one.node.probability == pytest.approx(other.node.probability, abs=1e-5)


def test_a_stored_prior_and_the_node_are_shown(
    server: httpx.Client, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """For people and as JSON."""
    source = Source(None, str(server.base_url), None)
    found = classify(images, source, 3, None, Conditions(prior="some", confidence=1.0))

    show(found, as_json=False)
    assert capsys.readouterr().out.count("  kind: broadleaf 1.000  (head 1)") == 3
    show(found, as_json=True)
    told = json.loads(capsys.readouterr().out)["predictions"]
    assert [one["node"]["name"] for one in told] == ["broadleaf"] * 3


def test_what_speaks_for_an_answer_is_told(
    treed: Bundle, server: httpx.Client, images: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """How near it is to what was learned, here as at a server; and by a server the nearest stored rows."""
    there = Source(None, str(server.base_url), None)
    here = classify(images, Source(treed.folder, "", None), 1, None, Conditions(known=True)).kept
    found = classify(images, there, 1, None, Conditions(known=True, explain=2))
    file = tmp_path / "found.jsonl"
    classify(images, there, 1, file, Conditions(known=True, explain=2))

    assert [one.known for one in here] == pytest.approx([one.known for one in found.kept], abs=0.01)
    show(found, as_json=True)
    told = json.loads(capsys.readouterr().out)["predictions"]
    assert [json.loads(line) for line in file.read_text().splitlines()] == told
    assert [one["known"] for one in told] == [one.known for one in found.kept]
    assert all(len(one["nearest"]) == 2 for one in told)
    show(found, as_json=False)
    words = capsys.readouterr().out
    assert words.count(" known 0.") + words.count(" known 1.") == 3
    for near in told[0]["nearest"]:
        assert f"    {near['distance']:.3f}  {near['class']}  row {near['row']} of the bundle" in words


@pytest.mark.parametrize("name", ["found.csv", "found.parquet"])
def test_a_table_has_no_place_for_what_speaks_for_an_answer(treed: Bundle, images: list[Path], name: str) -> None:
    """Refused before anything is computed, with the file that has."""
    out = images[0] / name

    with pytest.raises(BreadcrumbsError, match=r"no column there; expected a \.jsonl file"):
        classify(images, Source(treed.folder, "", None), 1, out, Conditions(known=True))
    assert not out.exists()


@pytest.mark.parametrize(
    ("asked", "here", "there"),
    [
        (Conditions(classes=("okk",)), "did you mean 'oak'", "did you mean 'oak'"),
        (Conditions(prior="soma"), "--prior soma: priors are in a server's store", "did you mean 'some'"),
        (Conditions(confidence=2), "--confidence 2: expected", "--confidence 2: expected"),
        (Conditions(confidence=float("nan")), "--confidence nan: expected", "--confidence nan: expected"),
        (Conditions(explain=-1), "--explain -1: expected", "--explain -1: expected"),
        (Conditions(explain=21), "--explain 21: a server names", "explain"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    treed: Bundle, server: httpx.Client, images: list[Path], asked: Conditions, here: str, there: str
) -> None:
    """Once, however many images there are."""
    for source, words in ((Source(treed.folder, "", None), here), (Source(None, str(server.base_url), None), there)):
        with pytest.raises(BreadcrumbsError, match=words) as error:
            classify(images, source, 3, None, asked)
        assert "\n" not in str(error.value)


def test_a_bundle_without_points_cannot_tell_what_is_known(tiny_bundle: Bundle, images: list[Path]) -> None:
    """One sentence, with the remedy."""
    with pytest.raises(BreadcrumbsError, match="carries no points to tell what is known by; leave it out"):
        classify(images, Source(tiny_bundle.folder, "", None), 1, None, Conditions(known=True))


def test_a_confidence_needs_a_taxonomy(tiny_bundle: Bundle, images: list[Path], tmp_path: Path) -> None:
    """Here and at a server; without one there is no node."""
    plain = Source(tiny_bundle.folder, "", None)
    assert [one.node for one in classify(images, plain, 1, None).kept] == [None] * 3
    with running(make_settings(tiny_bundle, tmp_path / "store")) as client:
        for source in (plain, Source(None, str(client.base_url), None)):
            with pytest.raises(BreadcrumbsError, match="taxonomy") as error:
                classify([*images[0].glob("*.png")], source, 1, None, Conditions(confidence=0.5))
            assert "\n" not in str(error.value)
