"""Every setting of the server: a field is a flag of `breadcrumbs serve`, an environment variable and a documented row.

The text below a field is its help and its row in `docs/serving.md`; the environment variable is `BREADCRUMBS_` and the
field's name in capitals. Nothing else in the package reads the environment, and nothing here knows what a setting does.
"""

import ipaddress
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

import models
from models.decoding import MAX_PIXELS
from serving import logs
from serving.arrival import Pace
from training.config import RefitDevice

MIB = 2**20
HOST = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-][A-Za-z0-9._-]*|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?")
"""A name, `*.` and a name, any name, or an address, without port."""

SWITCHES = {"true": "all", "on": "all", "yes": "all", "1": "all"} | dict.fromkeys(("false", "off", "no", "0"), "none")
"""What `access_log` was before there were three, as it is written in an environment."""


def wants_json(words: Sequence[str]) -> bool:
    """Whether a command line or the environment asks for a JSON log; errors in settings are lines of it, too."""
    given = [word.partition("=")[2] for word in words if word.startswith("--log-format=")]
    given += [value for name, value in pairwise(words) if name == "--log-format"]
    return (given or [os.environ.get("BREADCRUMBS_LOG_FORMAT", "")])[-1] == "json"


class Settings(BaseSettings):
    """The server's settings; frozen, checked when made."""

    model_config = SettingsConfigDict(
        frozen=True, env_prefix="BREADCRUMBS_", extra="forbid", use_attribute_docstrings=True
    )

    bundle: Path = Path(models.__file__).parent / "demo"
    """Folder of the bundle to serve, as written by `breadcrumbs train`."""
    store: str = "store"
    """Where heads, snapshots, refits and the activation log are kept: a folder, created if missing, or `s3://`, `gs://`
    or `az://` with bucket and prefix. It holds all state, so keep it where it survives the container."""
    follow: float = Field(default=0.5, ge=0, le=3600)
    """Seconds between two checks for heads and refits of other servers on this store; 0: never."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every interface, which needs `keys`."""
    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port; 0 lets the system choose a free one."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes on this port and store. Each has its own queue and limits; the cores are divided among them. More than
    one pays on machines with more cores than one server can use; a GPU is best fed by one."""
    keys: Path | None = None
    """File of API keys, made by `breadcrumbs keys add`; none: everyone may do everything, which is allowed only on an
    address of this machine."""
    insecure: bool = False
    """Listen on addresses other than this machine's without keys, because a proxy in front authenticates."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that this server answers to, as `models.example`, or `*.example` for all below; another `Host` is refused
    with 403. `localhost`, loopback addresses and the address that the client is connected to always count. None: also
    this machine's host name. `*`: any name, which gives up the protection against DNS rebinding. In the environment, a
    JSON list."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of reverse proxies, as `127.0.0.1` or `10.0.0.0/8`, whose `X-Forwarded-For`, `-Host`,
    `-Proto` and `-Prefix` are believed; name none that passes these headers on from its clients. In the environment, a
    JSON list."""
    root_path: str = Field(default="", pattern=r"^(/[A-Za-z0-9._~-]+)*$")
    """Path below which a reverse proxy serves this server, as `/ml/shoes`, whether the proxy strips it or not."""
    keep_alive: float = Field(default=75.0, gt=0, le=3600)
    """Seconds that an idle connection is kept open. Keep it longer than a proxy in front keeps its own (60 in nginx and
    AWS load balancers, 600 in Google's), or requests are lost."""
    origins: tuple[str, ...] = ()
    """Other sites whose web pages may use this server, as `https://lab.example` (CORS). In the environment, a JSON
    list."""
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    """Where the models run. `auto` takes the GPU if there is one, else the CPU, and logs which; a GPU that cannot be
    used is an error. `cuda` requires a GPU: use it in production, so that a missing driver is noticed at once.
    `tensorrt` is `cuda` with the backbone in TensorRT, whose libraries you install."""
    tensorrt_cache: Path | None = None
    """Folder where TensorRT caches the engines it builds; none: it builds them at each start, which takes minutes."""
    threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads that compute; 0: one per core. A single image uses all of them; under load, each computes its own
    batch."""
    precision: Literal["full", "half"] = "full"
    """Precision of the backbone: `half` uses the bundle's half-precision backbone, which is faster on a GPU and slower
    on a CPU."""
    start_timeout: float = Field(default=60.0, gt=0, le=86400)
    """Seconds that the models may take at start to load and to answer a blank image; after that, the start has failed.
    TensorRT may take any time."""
    max_batch: int = Field(default=32, ge=1, le=4096)
    """Largest number of images computed together. A larger batch gives more images per second under load and takes more
    memory; idle latency stays the same, since an image never waits for a batch to fill."""
    queue: int = Field(default=256, ge=1, le=1_000_000)
    """Largest number of waiting images; beyond it, requests are refused at once with 503 and `Retry-After`. Set it to
    about `deadline` times the images per second that the machine reaches."""
    deadline: float = Field(default=10.0, gt=0, le=3600)
    """Seconds from the last byte of a request to its answer; after that, it is answered with 503 and not computed."""
    decode_threads: int = Field(default=0, ge=0, le=256)
    """Threads that only decode images; 0: none on a CPU, where the computing threads decode, and one per core beside a
    GPU."""
    max_image_bytes: int = Field(default=20 * MIB, ge=1)
    """Largest size of one encoded image, in bytes."""
    max_pixels: int = Field(default=MAX_PIXELS, ge=1)
    """Largest number of pixels in one image, read from its header before decoding. The default is above the cameras of
    today's phones (50 and 108 million)."""
    decode_memory: int = Field(default=0, ge=0)
    """Memory for decoding images, in bytes, over all threads; 0: a quarter of the memory of the machine or container,
    divided among the workers. An image takes 8 to 18 bytes per pixel; one that does not fit now waits, one that never
    fits is refused with 413. A JPEG much larger than the network's input is reduced while it is decoded, and takes
    less."""
    max_images: int = Field(default=64, ge=1, le=100_000)
    """Largest number of images in one request."""
    max_body_bytes: int = Field(default=64 * MIB, ge=1)
    """Largest size of one predict or features request, all images together, in bytes."""
    max_snapshot_bytes: int = Field(default=2048 * MIB, ge=1)
    """Largest size of one uploaded snapshot, in bytes; it is written to disk, not held in memory."""
    max_held_bytes: int = Field(default=512 * MIB, ge=1)
    """Memory for the bodies of all current requests together, in bytes; beyond it, a body that has stalled goes, or
    else the request is refused with 503. One key, or address where there are none, may have three quarters of it for
    bodies over 1 MiB."""
    max_uploads: int = Field(default=16, ge=1, le=10_000)
    """Largest number of simultaneous snapshot uploads; beyond it, one that has stalled goes, or else the upload is
    refused with 503. One key, or address where there are none, may have three quarters of them."""
    max_store_bytes: int = Field(default=64 * 1024 * MIB, ge=0)
    """Largest size of the store, in bytes; beyond it, uploads are refused with 507; 0: no limit but the disk's.
    `breadcrumbs store gc` makes room."""
    receipt: float = Field(default=30.0, gt=0, le=3600)
    """Seconds for a request's line and headers, and most seconds that its body may be behind `receipt_rate`; after
    that, it is answered with 408."""
    receipt_idle: float = Field(default=10.0, gt=0, le=3600)
    """Longest pause between two pieces of a body, in seconds; after that, the request is answered with 408."""
    receipt_rate: int = Field(default=65_536, ge=1)
    """Bytes a second at which a body must arrive, as long as it takes."""
    max_snapshots: int = Field(default=32, ge=1, le=10_000)
    """Largest number of snapshots in one refit."""
    refit: Literal["here", "elsewhere", "off"] = "here"
    """Where refits started on this server run. Of all servers on one store, one says `here`. `elsewhere`: that server
    runs them; this one can start, show and cancel them all the same. `off`: no refits, only predictions and head
    swaps."""
    refit_queue: int = Field(default=8, ge=0, le=10_000)
    """Largest number of refits waiting behind the running one; beyond it, they are refused with 503."""
    refit_timeout: float = Field(default=3600.0, gt=0)
    """Seconds that one refit may take; after that, its process is stopped and the refit has failed."""
    refit_memory: int = Field(default=0, ge=0)
    """Memory limit of a refit's process, in bytes; beyond it, the process is stopped; 0: three quarters of the memory
    of the machine or container. Memory-mapped files do not count."""
    refit_cpu: Literal["idle", "share"] = "idle"
    """CPU time of a refit. `idle`: what requests leave, so that they hardly feel it; while a server is busy without a
    pause, a refit waits. `share`: a tenth of a busy server's time too, which requests feel."""
    refit_device: RefitDevice = "auto"
    """Where a refit is solved. `auto`: on the GPU, if PyTorch sees one that has 2 GiB free and the rows are many enough
    to pay for it, else on the CPU. `cpu` keeps the GPU for requests. `cuda`: a refit that cannot have the GPU fails."""
    log_format: logs.Format = "text"
    """Format of every line that the server writes to standard error: `text` for people, `json` for programs, one object
    a line."""
    log_level: logs.Level = "info"
    """Least level of what is logged; a request's line has the level `info`."""
    access_log: logs.Requests = "all"
    """Which requests are logged, one line each: all, none, or all but those to `/healthz`, `/readyz`, `/metrics` and
    the health and readiness routes of `/v2`."""
    otlp_endpoint: str | None = None
    """Where to send each request as an OpenTelemetry span (OTLP over HTTP), as `http://collector:4318/v1/traces`; needs
    the extra `otel`."""

    @property
    def pace(self) -> Pace:
        """How fast requests must arrive."""
        return Pace(self.receipt, self.receipt_idle, self.receipt_rate)

    @field_validator("access_log", mode="before")
    @classmethod
    def _read_switch(cls, value: object) -> object:
        return SWITCHES.get(str(value).lower(), value)

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not HOST.fullmatch(host):
                raise ValueError(
                    f"allowed_hosts {host!r:.80}: expected a name or an address without port, as models.example"
                )
        return hosts

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError:
                told = f"trusted_proxies {proxy!r:.80}: expected an address or a network, as 127.0.0.1 or 10.0.0.0/8"
                raise ValueError(told) from None
        return proxies

    @model_validator(mode="after")
    def _check_following(self) -> Self:
        if not self.follow and (self.workers > 1 or self.refit == "elsewhere"):
            raise ValueError("follow: 0 goes neither with several workers nor with refit = elsewhere, which must look")
        return self
