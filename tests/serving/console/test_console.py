"""The console: its files come with a strict policy, name only what is there, and the API has what they ask for."""

import re
from pathlib import Path

import httpx
from running import make_settings, running
from tiny import picture, png, write_bundle

from breadcrumbs.models import bundle as bundles
from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.http.routes.console import REPORT_POLICY
from breadcrumbs.serving.settings import Settings
from breadcrumbs.training.report import html

CONSOLE = Path(__file__).parents[3] / "serving" / "console"
SCRIPTS = {path.name: path.read_text() for path in CONSOLE.glob("*.js")}


def test_every_file_comes_with_the_policy(client: httpx.Client) -> None:
    """Scripts and styles of this server only, nothing inline, in no frame."""
    for path in ("/", *(f"/console/{file.name}" for file in CONSOLE.iterdir())):
        answer = client.get(path)

        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy.replace("style-src 'self' 'unsafe-inline'", "" if "report.html" in path else "-")
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/console/nothing.js").status_code == 404


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    """So that the policy can be strict; and text never becomes markup."""
    for file in CONSOLE.glob("*.html"):
        assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=", file.read_text()), file.name
    page = "".join(file.read_text() for file in CONSOLE.glob("*.html"))

    for text in (page, *SCRIPTS.values(), (CONSOLE / "console.css").read_text()):
        assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    for name, text in SCRIPTS.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(", text), name


def test_only_the_reports_page_lets_pictures_styles_and_one_script_in(client: httpx.Client) -> None:
    """Pictures as data, styles of reports of any age, and the script whose digest it names, in a frame of its own."""
    answer = client.get("/console/report.html")
    plain = client.get("/").headers["content-security-policy"]

    assert answer.headers["content-security-policy"] == REPORT_POLICY != plain
    assert "data:" not in plain
    assert "sha256-" not in plain
    assert f"script-src 'self' {html.SCRIPT_SOURCE};" in REPORT_POLICY
    assert '<iframe id="report" title="The refit\'s report" sandbox="allow-scripts" hidden>' in answer.text


def test_the_scripts_ask_only_for_routes_that_there_are() -> None:
    """The console is an example of the public API, so it must stay one."""
    paths = set(create_app(Settings()).openapi()["paths"])
    known = {re.sub(r"\{[^}]*\}", "*", path) for path in paths} | {"/docs"}
    asked = {
        re.sub(r"\$\{[^}]*\}", "*", found).partition("?")[0]
        for text in SCRIPTS.values()
        for found in re.findall(r"[\"`](/(?:v1|metrics|readyz|healthz)[^\"`]*)[\"`]", text)
    }

    assert len(asked) > 8
    assert asked <= known


def test_samples_are_listed_and_served(tmp_path: Path) -> None:
    """Those that the manifest names, and nothing else in the folder."""
    plain = write_bundle(tmp_path / "bundle")
    files = {name: (plain.folder / name).read_bytes() for name in plain.manifest.files}
    image = png(picture())
    bundle = bundles.write(tmp_path / "bundle", plain.manifest, files | {"samples/1-0.png": image})
    (bundle.folder / "samples" / "2-0.png").write_bytes(b"not named")
    with running(make_settings(bundle, tmp_path / "store")) as client:
        listed = client.get("/v1/samples").json()["samples"]
        answer = client.get("/v1/samples/1-0.png")

        assert listed == [{"name": "1-0.png", "class": "elm"}]
        assert (answer.headers["content-type"], answer.content) == ("image/png", image)
        assert client.get("/v1/samples/2-0.png").status_code == 404
        assert client.get("/v1/samples/..%2fmanifest.json").status_code == 404
