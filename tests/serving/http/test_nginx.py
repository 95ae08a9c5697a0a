"""A real nginx with TLS and a path prefix, configured as docs/serving.md says, before a real server."""

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from patience import PATIENCE
from refits import events
from server_process import serving
from tiny import picture, png, tiny_snapshot

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots

PAGE = (Path(__file__).parents[3] / "docs/serving.md").read_text()
(LOCATION,) = re.findall(r"```nginx\n(.*?)```", PAGE, re.DOTALL)
(FLAGS,) = re.findall(r"^\$ breadcrumbs serve (--insecure .*--root-path.*)$", PAGE, re.MULTILINE)
CONFIGURATION = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name models.example;
        ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
        {location}
    }}
}}
"""
TRITON = """
import sys
import tritonclient.http as triton
from gevent import ssl
client = triton.InferenceServerClient(sys.argv[1], ssl=True, ssl_options={"ca_certs": sys.argv[2]})
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("tiny")
import numpy as np
file = triton.InferInput("image", [1], "BYTES")
file.set_data_from_numpy(np.array([open(sys.argv[3], "rb").read()], object))
for codec in (None, "gzip"):
    how = {"request_compression_algorithm": codec, "response_compression_algorithm": codec}
    answer = client.infer("tiny-files", [file], **how)
    assert answer.as_numpy("probabilities").shape[0] == 1, answer
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("nginx") or not shutil.which("openssl"), reason="needs nginx and openssl"),
]


@dataclass(frozen=True)
class Proxied:
    """A server behind nginx: a client that goes through it, below the prefix, and the certificate that it trusts."""

    client: httpx.Client
    port: int
    certificate: Path


@pytest.fixture(scope="module", params=["stripped", "whole"])
def proxied(
    request: pytest.FixtureRequest, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    """Once with the prefix stripped by nginx, as on the page, once passed on."""
    folder = tmp_path_factory.mktemp("nginx")
    with serving(tiny_bundle, folder, *FLAGS.replace("models.example", "localhost").split()) as server:
        location = LOCATION.replace(
            "127.0.0.1:8000/" if request.param == "whole" else "127.0.0.1:8000", "127.0.0.1:{server}"
        )
        with running_nginx(folder, location.replace("{server}", str(server.address[1]))) as proxy:
            yield proxy


@contextlib.contextmanager
def running_nginx(folder: Path, location: str) -> Iterator[Proxied]:
    """Run nginx with TLS on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(made, cwd=folder, check=True, capture_output=True)
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, port=port, location=location))
    with subprocess.Popen(["nginx", "-p", folder, "-c", configuration, "-e", folder / "error.log"]) as process:
        try:
            trusted = ssl.create_default_context(cafile=folder / "cert.pem")
            base = f"https://localhost:{port}/ml/shoes"
            with httpx.Client(base_url=base, verify=trusted, timeout=PATIENCE) as client:
                wait_for(client, process)
                yield Proxied(client, port, folder / "cert.pem")
        finally:
            process.terminate()


def wait_for(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    """Return when the server answers through nginx."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            assert client.get("/readyz").status_code == 200
            return
        time.sleep(0.05)
    pytest.fail("nginx did not answer")


def test_pages_and_what_they_load_come_through(proxied: Proxied) -> None:
    """The console, the API's pages and every file that they name; the address without its slash leads there."""
    client = proxied.client
    found = {"/ml/shoes/"}
    for page in ("/", "/docs", "/openapi.json"):
        answer = client.get(page)
        assert answer.status_code == 200, page
        for address in re.findall(r'(?:src|href)=["\']([^"\'#]+)', answer.text):
            found.add(str(answer.url.join(address)))

    assert len(found) > 5
    for address in found:
        assert client.get(str(client.base_url.join(address))).status_code == 200, address
    bare = httpx.Client(verify=ssl.create_default_context(cafile=proxied.certificate), follow_redirects=True)
    with bare:
        last = bare.get(f"https://localhost:{proxied.port}/ml/shoes")
    assert (last.status_code, str(last.url)) == (200, f"https://localhost:{proxied.port}/ml/shoes/")


def test_redirects_and_locations_stay_below_the_prefix(proxied: Proxied) -> None:
    """With nginx's scheme, host and port."""
    client = proxied.client
    redirect = client.get("/v1/heads/?limit=1", follow_redirects=True)

    assert redirect.status_code == 200
    assert str(redirect.url).startswith(f"https://localhost:{proxied.port}/ml/shoes/v1/heads")


def test_predictions_uploads_and_a_refits_events(proxied: Proxied, tiny_bundle: Bundle) -> None:
    """An image, a snapshot of several pieces, the stream of events as it happens, and the new head."""
    client = proxied.client
    before = client.post("/v1/predict", content=png(picture(5)), headers={"content-type": "image/png"})
    assert before.status_code == 200, before.text
    uploaded = []
    for epoch in (1, 2):
        snapshot = snapshots.to_bytes(tiny_snapshot(tiny_bundle.backbone_digest, epoch, rows=20_000))
        answer = client.put("/v1/snapshots", content=snapshot)
        assert answer.status_code == 201, answer.text
        uploaded.append(answer.json()["sha256"])

    started = client.post("/v1/refit", json={"snapshots": uploaded, "spec": {"activate": "always"}})
    assert started.status_code == 202, started.text
    location = started.headers["location"]
    assert location.startswith("/ml/shoes/v1/refit/")
    *_, last = events(client, started.json()["id"])
    after = client.post("/v1/predict", content=png(picture(5)), headers={"content-type": "image/png"})

    assert last["state"] == "succeeded", client.get(f"/v1/refit/{started.json()['id']}").text
    assert after.json()["head"]["version"] == before.json()["head"]["version"] + 1


def test_the_open_inference_protocols_client_goes_through(proxied: Proxied, tmp_path: Path) -> None:
    """Triton's own client, over TLS, below the prefix, with gzip both ways and without."""
    image = tmp_path / "image.png"
    image.write_bytes(png(picture(5)))
    where = f"localhost:{proxied.port}/ml/shoes"
    line = [sys.executable, "-W", "ignore", "-c", TRITON, where, str(proxied.certificate), str(image)]

    done = subprocess.run(line, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
