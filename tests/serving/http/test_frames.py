"""No page of the server can be shown in a frame of another site."""

from pathlib import Path

import httpx
from running import Serve, make_settings

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.http.routes import console


def test_no_page_can_be_framed_by_another_site(tiny_bundle: Bundle, client: httpx.Client) -> None:
    """Every route without parameters, every file of the console and of the documentation; whatever is HTML."""
    app = create_app(make_settings(tiny_bundle, Path("unused")))
    paths = {getattr(route, "path", "") for route in app.routes if "GET" in (getattr(route, "methods", None) or ())}
    paths |= {"/", *app.openapi()["paths"]}
    paths |= {f"/console/{file.relative_to(console.FILES)}" for file in console.FILES.rglob("*") if file.is_file()}
    pages = set()

    for path in sorted(path for path in paths if path and "{" not in path):
        answer = client.get(path)
        if answer.headers.get("content-type", "").startswith("text/html"):
            pages.add(path)
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], path
            assert answer.headers["x-frame-options"] == "DENY", path
    assert {"/", "/docs", "/docs/oauth2-redirect", "/console/report.html"} <= pages


def test_a_report_is_framed_by_the_console_only(serve: Serve) -> None:
    """Which shows it in one; browsers of either age are told."""
    with serve() as client:
        job = client.post("/v1/refit", json={"spec": {"activate": "never"}}).json()["id"]
        client.get(f"/v1/refit/{job}/events")
        answer = client.get(f"/v1/refit/{job}/report.html")

    assert answer.headers["content-type"].startswith("text/html")
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
