"""Every setting of the server. Each field is a flag of `breadcrumbs serve`, an environment variable and a row in the
docs.

The text below a field is its help and its row in `docs/serving.md`; the environment variable is `BREADCRUMBS_` and the
field's name in capitals. It knows nothing of what a setting does.
"""

import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from cyclopts import Group, Parameter
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from breadcrumbs import models
from breadcrumbs.models.images.decoding import MAX_PIXELS
from breadcrumbs.models.lineages import CONFIDENCE
from breadcrumbs.serving import logs
from breadcrumbs.serving.setting_lists import HostNames, Origins, Proxies
from breadcrumbs.serving.setting_names import PREFIX, both
from breadcrumbs.training.config import RefitDevice

MIB = 2**20
GROUPS = (
    "Model",
    "Store",
    "Network",
    "Keys and browsers",
    "Computing",
    "Limits",
    "Answers",
    "Refits",
    "Migration",
    "Logs",
)
"""The groups of settings, in the order of help and docs."""
MODEL, STORE, NETWORK, ACCESS, COMPUTING, LIMITS, ANSWERS, REFITS, MIGRATION, LOGS = (
    Parameter(group=Group(title, sort_key=place)) for place, title in enumerate(GROUPS)
)
PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
DURATION = re.compile(r"0*[1-9][0-9]{0,6}[smhd]")
COLLECTOR = re.compile(r"https?://[^\s/]+(/\S*)?")
LABEL_STUDIO = re.compile(r"https?://[\w.\[\]:-]+(/[\w.~/-]*)?", re.ASCII)

SWITCHES = dict.fromkeys(("true", "on", "yes", "1"), "all") | dict.fromkeys(("false", "off", "no", "0"), "none")
"""Values of `access_log` from when it was a switch."""


def wants_json(words: Sequence[str]) -> bool:
    """Whether a command line or the environment asks for a JSON log. Errors in settings are logged in it, too."""
    given = [word.partition("=")[2] for word in words if word.startswith("--log-format=")]
    given += [value for name, value in pairwise(words) if name == "--log-format"]
    return (given or [os.environ.get("BREADCRUMBS_LOG_FORMAT", "")])[-1] == "json"


class Settings(BaseSettings):
    """The server's settings; frozen, checked when made."""

    model_config = SettingsConfigDict(frozen=True, env_prefix=PREFIX, extra="forbid", use_attribute_docstrings=True)

    bundle: Annotated[Path, MODEL] = Path(models.__file__).parent / "demo"
    """Folder of the bundle to serve, as written by `breadcrumbs train`."""
    precision: Annotated[Literal["auto", "full", "half", "int8"], MODEL] = "full"
    """Precision of the backbone: `half` uses the bundle's half-precision backbone, which is faster on a GPU and slower
    on a CPU; `int8` the one in int8, which is faster on a CPU and has features and heads of its own. `auto` takes what
    the store's live head was fitted to, and in an empty store what is fastest on this machine."""
    confidence: Annotated[float, MODEL] = Field(default=CONFIDENCE, gt=0, le=1)
    """Probability that a group of classes must reach to be named as an answer's deepest sure node, where the bundle has
    a taxonomy; a request may ask for another."""
    start_timeout: Annotated[float, MODEL] = Field(default=60.0, gt=0, le=86400)
    """Seconds for the models to load and to answer a blank image at start; after that, the start fails. There is no
    limit with TensorRT."""
    store: Annotated[str, STORE] = "store"
    """Where heads, snapshots, refits and the activation log are kept: a folder, created if missing, or `s3://`, `gs://`
    or `az://` with bucket and prefix. It holds all state, so keep it where it survives the container."""
    follow: Annotated[float, STORE] = Field(default=0.5, ge=0, le=3600)
    """Seconds between two polls of the store for heads and refits of other servers; 0 means never."""
    max_store_bytes: Annotated[int, STORE] = Field(default=64 * 1024 * MIB, ge=0)
    """Largest size of the store, in bytes; beyond it, uploads are refused with 507; 0 means no limit but the disk's.
    `breadcrumbs store gc` makes room."""
    host: Annotated[str, NETWORK] = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every interface, which needs `keys`."""
    port: Annotated[int, NETWORK] = Field(default=8000, ge=0, le=65535)
    """TCP port; 0 lets the system choose a free one."""
    workers: Annotated[int, NETWORK] = Field(default=1, ge=1, le=256)
    """Processes on this port and store. Each has its own queue and limits; the cores are divided among them. More than
    one pays on machines with more cores than one server can use; a GPU is best fed by one."""
    root_path: Annotated[str, NETWORK] = ""
    """Path below which a reverse proxy serves this server, for example `/ml/shoes`; the proxy may strip it or not."""
    trusted_proxies: Annotated[Proxies, NETWORK] = ()
    """Addresses or networks of trusted reverse proxies, for example `127.0.0.1` or `10.0.0.0/8`: their
    `X-Forwarded-For`, `-Host`, `-Proto` and `-Prefix` are used. Do not name a proxy that forwards these headers from
    its clients."""
    keep_alive: Annotated[float, NETWORK] = Field(default=75.0, gt=0, le=3600)
    """Seconds that an idle connection is kept open. Keep it longer than a proxy in front keeps its own (60 in nginx and
    AWS load balancers, 600 in Google's), or requests are lost."""
    receipt: Annotated[float, NETWORK] = Field(default=30.0, gt=0, le=3600)
    """Seconds for a request's line and headers, and the most seconds that its body may be behind `receipt_rate`; after
    that, the answer is 408."""
    receipt_idle: Annotated[float, NETWORK] = Field(default=10.0, gt=0, le=3600)
    """Longest pause between two pieces of a body, in seconds; after that, the answer is 408."""
    receipt_rate: Annotated[int, NETWORK] = Field(default=65_536, ge=1)
    """Bytes per second at which a body must arrive, however long it takes."""
    keys: Annotated[Path | None, ACCESS] = None
    """File of API keys, made by `breadcrumbs keys add`. Without one, everyone may do everything, which is allowed only
    on an address of this machine."""
    insecure: Annotated[bool, ACCESS] = False
    """Listen on addresses other than this machine's without keys, because a proxy in front authenticates."""
    allowed_hosts: Annotated[HostNames, ACCESS] = ()
    """Names that this server answers to, for example `models.example`, or `*.example` for all names below it; any other
    `Host` is refused with 403. `localhost`, loopback addresses and the address that the client is connected to are
    always allowed. If none is given, this machine's host name is allowed, too. `*` allows any name, without protection
    against DNS rebinding."""
    origins: Annotated[Origins, ACCESS] = ()
    """Other sites whose web pages may use this server (CORS), for example `https://lab.example`; `*` means every site.
    Keys are still required."""
    device: Annotated[Literal["auto", "cpu", "cuda", "tensorrt"], COMPUTING] = "auto"
    """Where the models run. `auto` takes the GPU if there is one, else the CPU, and logs which; a GPU that cannot be
    used is an error. `cuda` requires a GPU: use it in production, so that a missing driver is noticed at once.
    `tensorrt` is `cuda` with the backbone in TensorRT; you install its libraries."""
    tensorrt_cache: Annotated[Path | None, COMPUTING] = None
    """Folder where TensorRT caches the engines it builds. Without one, it builds them at each start, which takes
    minutes."""
    threads: Annotated[int, COMPUTING] = Field(default=0, ge=0, le=1024)
    """CPU threads that compute; 0 means one per core. A single image uses all of them; under load, each computes its
    own batch."""
    max_batch: Annotated[int, COMPUTING] = Field(default=32, ge=1, le=4096)
    """Largest number of images computed together. A larger batch gives more images per second under load and takes more
    memory; idle latency stays the same, since an image never waits for a batch to fill."""
    queue: Annotated[int, COMPUTING] = Field(default=256, ge=1, le=1_000_000)
    """Largest number of waiting images; beyond it, requests are refused at once with 503 and `Retry-After`. Set it to
    about `deadline` times the images per second that the machine reaches."""
    deadline: Annotated[float, COMPUTING] = Field(default=10.0, gt=0, le=3600)
    """Seconds from the last byte of a request to its answer; after that, the answer is 503 and nothing is computed."""
    decode_threads: Annotated[int, COMPUTING] = Field(default=0, ge=0, le=256)
    """Threads that only decode images; 0 means one per core with a GPU, and none on a CPU, where the computing threads
    decode."""
    decode_memory: Annotated[int, COMPUTING] = Field(default=0, ge=0)
    """Memory for decoding images, in bytes, over all threads; 0 means a quarter of the memory of the machine or
    container, divided among the workers. An image takes 8 to 18 bytes per pixel. It waits until it fits; if it can
    never fit, it is refused with 413. A JPEG much larger than the network's input is reduced during decoding, and takes
    less."""
    max_image_bytes: Annotated[int, LIMITS] = Field(default=20 * MIB, ge=1)
    """Largest size of one encoded image, in bytes."""
    max_pixels: Annotated[int, LIMITS] = Field(default=MAX_PIXELS, ge=1)
    """Largest number of pixels in one image, read from its header before decoding. The default allows the photos of
    today's phones (50 and 108 million pixels)."""
    max_images: Annotated[int, LIMITS] = Field(default=64, ge=1, le=100_000)
    """Largest number of images in one request."""
    max_body_bytes: Annotated[int, LIMITS] = Field(default=64 * MIB, ge=1)
    """Largest size of one predict or features request, all images together, in bytes."""
    max_snapshot_bytes: Annotated[int, LIMITS] = Field(default=2048 * MIB, ge=1)
    """Largest size of one uploaded snapshot, in bytes. Snapshots are written to disk, not held in memory."""
    max_snapshots: Annotated[int, LIMITS] = Field(default=32, ge=1, le=10_000)
    """Largest number of snapshots in one refit."""
    max_held_bytes: Annotated[int, LIMITS] = Field(default=512 * MIB, ge=1)
    """Memory for the bodies of all current requests together, in bytes. Beyond it, a stalled request is ended; if none
    has stalled, the new one is refused with 503. One key (or one address, if there are no keys) may use three quarters
    of it for bodies over 1 MiB."""
    max_uploads: Annotated[int, LIMITS] = Field(default=16, ge=1, le=10_000)
    """Largest number of simultaneous snapshot uploads. Beyond it, a stalled upload is ended; if none has stalled, the
    new one is refused with 503. One key (or one address, if there are no keys) may use three quarters of them."""
    max_lines: Annotated[int, LIMITS] = Field(default=1000, ge=0, le=100_000)
    """Largest number of named lines. A head that is live in several lines is in memory once."""
    remember: Annotated[int, ANSWERS] = Field(default=0, ge=0, le=10_000_000)
    """Number of answers that are remembered in the store, so that they can be labelled by their `id`; 0 means none.
    Beyond it, the oldest are removed. What is remembered of an answer can be personal data."""
    remember_days: Annotated[float, ANSWERS] = Field(default=30.0, gt=0, le=36_500)
    """Days that an answer is remembered."""
    remember_bytes: Annotated[int, ANSWERS] = Field(default=1024 * MIB, ge=MIB)
    """Size of all remembered answers in the store, in bytes; beyond it, the oldest are removed. An answer takes 2 bytes
    for each dimension of a feature, and about 1 kB."""
    remember_images: Annotated[bool, ANSWERS] = False
    """Also remember a thumbnail of each image, a JPEG of at most 128 × 128 pixels."""
    label_studio: Annotated[str | None, ANSWERS] = None
    """URL of a Label Studio, for example `http://label-studio:8080`. It turns on the ML backend under `/label-studio`,
    which fetches images from there and from nowhere else."""
    label_studio_token: Annotated[Path | None, ANSWERS] = None
    """File with an access token of that Label Studio, of a user who may see the images."""
    refit: Annotated[Literal["here", "elsewhere", "off"], REFITS] = "here"
    """Where refits run. `here`: on this server; set it on one of the servers that share a store. `elsewhere`: on that
    server; this one can still start, show and cancel them. `off`: no refits, only predictions and head swaps."""
    refit_queue: Annotated[int, REFITS] = Field(default=8, ge=0, le=10_000)
    """Largest number of refits waiting behind the running one; beyond it, they are refused with 503."""
    refit_timeout: Annotated[float, REFITS] = Field(default=3600.0, gt=0)
    """Seconds that one refit may take; after that, its process is stopped and the refit fails."""
    refit_memory: Annotated[int, REFITS] = Field(default=0, ge=0)
    """Memory limit of a refit's process, in bytes; beyond it, the process is stopped; 0 means three quarters of the
    memory of the machine or container. Memory-mapped files do not count."""
    refit_cpu: Annotated[Literal["idle", "share"], REFITS] = "idle"
    """CPU time of a refit. `idle`: only what requests leave, so they are hardly slower; on a server that is always
    busy, a refit waits. `share`: also a tenth of a busy server's time, so requests are slower."""
    refit_device: Annotated[RefitDevice, REFITS] = "auto"
    """Where a refit is solved. `auto`: on the GPU, if PyTorch sees one with 2 GiB free and there are enough rows to
    make it faster, else on the CPU. `cpu` keeps the GPU for requests. `cuda`: a refit fails if it cannot use the
    GPU."""
    gate_holdout: Annotated[Path | None, REFITS] = None
    """Snapshot that every refit of this server is judged on, in place of the hold-out of the request or the bundle. It
    is made by the deployed backbone, has a label in each row, and is read and checked at start."""
    refit_after_labels: Annotated[int, REFITS] = Field(default=0, ge=0, le=1_000_000_000)
    """New verified labels after which a refit from all verified examples starts by itself, unless one runs or waits; 0
    means never. Set it on the server that runs refits."""
    refit_nightly: Annotated[str | None, REFITS] = None
    """Time of day, UTC, as `02:30`, at which a refit from all verified examples starts by itself if a verified label
    came since the last one. If another refit runs then, or the server is down, it starts up to six hours later."""
    gate_trial: Annotated[str | None, REFITS] = None
    """Try a refit's head before it goes live: a head that the gate says yes to starts as a shadow trial of so long, as
    `24h` or `7d`. It goes live by itself when verified labels show that its recall is not lower by 2 points or more;
    the trial is stopped when they show that it is lower. Needs `remember`."""
    migrate_to: Annotated[Path | None, MIGRATION] = None
    """Folder of a bundle to migrate to: a share of the images that are answered also goes through its backbone, and the
    features of both are kept in the store as pairs. It takes the memory of that backbone, and one thread of the lowest
    priority; answers do not wait for it."""
    migrate_share: Annotated[float, MIGRATION] = Field(default=0.01, gt=0, le=1)
    """Share of the images that are drawn for pairs. One that comes while earlier ones wait is dropped."""
    migrate_pairs: Annotated[int, MIGRATION] = Field(default=500, ge=1, le=1_000_000)
    """Pairs that are enough, of all servers of the store; then no more are collected."""
    log_format: Annotated[logs.Format, LOGS] = "text"
    """Format of every line that the server writes to standard error: `text` for people, `json` for programs, one object
    per line."""
    log_level: Annotated[logs.Level, LOGS] = "info"
    """Lowest level that is logged; a request's line has the level `info`."""
    access_log: Annotated[logs.Requests, LOGS] = "all"
    """Which requests are logged, one line each: `all`, `none`, or `no-probes`, which leaves out `/healthz`, `/readyz`,
    `/metrics` and the health and readiness routes of `/v2`."""
    otlp_endpoint: Annotated[str | None, LOGS] = None
    """URL to send each request to as an OpenTelemetry span (OTLP over HTTP), for example
    `http://collector:4318/v1/traces`; needs the extra `otel`."""

    @field_validator("access_log", mode="before")
    @classmethod
    def _read_switch(cls, value: object) -> object:
        return SWITCHES.get(str(value).lower(), value)

    @field_validator("port", mode="before")
    @classmethod
    def _check_port(cls, port: object) -> object:
        if isinstance(port, str) and "://" in port:
            raise ValueError(
                "expected a number; Kubernetes sets BREADCRUMBS_PORT to a URL for a Service named breadcrumbs, unless "
                "the pod has enableServiceLinks: false"
            )
        return port

    @field_validator("root_path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        if not PATH.fullmatch(path):
            raise ValueError("expected a path with a slash before it and none behind, as /ml/shoes")
        return path

    @field_validator("refit_nightly")
    @classmethod
    def _check_time(cls, given: str | None) -> str | None:
        if given is not None and not TIME_OF_DAY.fullmatch(given):
            raise ValueError("expected a time of day, 00:00 … 23:59, as 02:30")
        return given

    @field_validator("gate_trial")
    @classmethod
    def _check_duration(cls, given: str | None) -> str | None:
        if given is not None and not DURATION.fullmatch(given):
            raise ValueError("expected a duration, as 90s, 30m, 24h or 7d")
        return given

    @field_validator("otlp_endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not COLLECTOR.fullmatch(endpoint):
            raise ValueError("expected a URL, as http://collector:4318/v1/traces")
        return endpoint

    @field_validator("label_studio")
    @classmethod
    def _check_label_studio(cls, address: str | None) -> str | None:
        if address is not None and not LABEL_STUDIO.fullmatch(address):
            raise ValueError("expected a URL without a query, as http://label-studio:8080")
        return address

    @model_validator(mode="after")
    def _check_token(self) -> Self:
        if self.label_studio_token is not None and self.label_studio is None:
            raise ValueError(f"label_studio_token: {self.label_studio_token} needs {both('label_studio')}, the address")
        return self

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        for name in ("refit_after_labels", "refit_nightly"):
            if self.refit == "off" and getattr(self, name):
                raise ValueError(
                    f"{name}: {getattr(self, name)} does not go with {both('refit')} off: no refit can start"
                )
        return self

    @model_validator(mode="after")
    def _check_trial(self) -> Self:
        if self.gate_trial is not None and not self.remember:
            raise ValueError(
                f"gate_trial: a trial is decided by labels of remembered answers, and none are remembered: set "
                f"{both('remember')}, or leave {both('gate_trial')} out"
            )
        return self

    @model_validator(mode="after")
    def _check_following(self) -> Self:
        if not self.follow and (self.workers > 1 or self.refit == "elsewhere"):
            raise ValueError(
                f"follow: 0 goes neither with several {both('workers')} nor with {both('refit')} elsewhere, which must "
                f"look"
            )
        return self
