"""What is asked of `predict` besides the images: here as at a server, and one sentence for what cannot be."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from running import make_settings, running
from tiny import CLASSES, expected_features, picture, png

from breadcrumbs.classify.classify import Source, classify, show
from breadcrumbs.classify.conditions import Conditions
from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.known import STEPS, Known, to_bytes, unit
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot

ROWS = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)
TREE = b"class,kind,all\noak,broadleaf,tree\nelm,broadleaf,tree\nWollemia nobilis,conifer,tree\n"


@pytest.fixture(scope="module")
def treed(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with a taxonomy, rows of its own, and points."""
    files = {name: (tiny_bundle.folder / name).read_bytes() for name in tiny_bundle.manifest.files}
    folder = tmp_path_factory.mktemp("tree") / "bundle"
    own = Snapshot(ROWS, np.arange(9) % 3, CLASSES, tiny_bundle.backbone_digest, 2, ids=np.arange(50, 59))
    scales = np.tile(np.linspace(-1, 1, STEPS, dtype=np.float32), (3, 1))
    points = Known(np.eye(4, dtype=np.float32), unit(ROWS), np.arange(9) % 3, scales)
    more = {
        bundles.TAXONOMY: TREE, bundles.KNOWN: to_bytes(points, tiny_bundle.head().digest),
        "snapshots/epoch-0002.safetensors": snapshots.to_bytes(own),
    }  # fmt: skip
    return bundles.write(folder, tiny_bundle.manifest, files | more)


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


def test_how_well_it_is_known_and_the_nearest_rows_are_shown(
    treed: Bundle, server: httpx.Client, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """`known` by a bundle as by its server; the rows by the server, for people and as JSON."""
    source = Source(None, str(server.base_url), None)
    there = classify(images, source, 1, None, Conditions(known=True, explain=2))
    here = classify(images, Source(treed.folder, "", None), 1, None, Conditions(known=True)).kept

    assert [one.known for one in here] == pytest.approx([one.known for one in there.kept], abs=1e-3)
    assert all(0 < (one.known or 0) <= 1 for one in here)
    show(there, as_json=True)
    told = json.loads(capsys.readouterr().out)["predictions"]
    features = expected_features(np.stack([picture(seed) for seed in range(3)]))
    rows = (unit(ROWS) @ unit(features).T).argmax(0).tolist()
    assert [[one["nearest"][0][name] for name in ("row", "image", "class")] for one in told] == [
        [row, 50 + row, CLASSES[row % 3]] for row in rows
    ]
    assert [len(one["nearest"]) for one in told] == [2] * 3
    show(there, as_json=False)
    text = capsys.readouterr().out
    assert text.count("  known 0.") == 3
    assert text.count("  source bundle  row ") == 6


@pytest.mark.parametrize(
    ("asked", "here", "there"),
    [
        (Conditions(classes=("okk",)), "did you mean 'oak'", "did you mean 'oak'"),
        (Conditions(prior="soma"), "--prior soma: priors are in a server's store", "did you mean 'some'"),
        (Conditions(confidence=2), "--confidence 2: expected", "--confidence 2: expected"),
        (Conditions(explain=3), "--explain 3: the rows .* are told by a server", ""),
        (Conditions(explain=21), "--explain 21: ", "explain: .* less than or equal to 20"),
        (Conditions(explain=-1), "--explain -1: ", "explain: .* greater than or equal to 0"),
        (Conditions(confidence=float("nan")), "--confidence nan: expected", "--confidence nan: expected"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    treed: Bundle, server: httpx.Client, images: list[Path], asked: Conditions, here: str, there: str
) -> None:
    """Once, however many images there are."""
    for source, words in ((Source(treed.folder, "", None), here), (Source(None, str(server.base_url), None), there)):
        if not words:  # it can be asked there
            continue
        with pytest.raises(BreadcrumbsError, match=words) as error:
            classify(images, source, 3, None, asked)
        assert "\n" not in str(error.value)


def test_a_confidence_needs_a_taxonomy_and_known_needs_points(
    tiny_bundle: Bundle, images: list[Path], tmp_path: Path
) -> None:
    """Here and at a server; without a taxonomy there is no node."""
    plain = Source(tiny_bundle.folder, "", None)
    assert [one.node for one in classify(images, plain, 1, None).kept] == [None] * 3
    with running(make_settings(tiny_bundle, tmp_path / "store")) as client:
        for source in (plain, Source(None, str(client.base_url), None)):
            with pytest.raises(BreadcrumbsError, match="taxonomy") as error:
                classify([*images[0].glob("*.png")], source, 1, None, Conditions(confidence=0.5))
            assert "\n" not in str(error.value)
            with pytest.raises(BreadcrumbsError, match="carries no points") as error:
                classify(images, source, 1, None, Conditions(known=True))
            assert "\n" not in str(error.value)
