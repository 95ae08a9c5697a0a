"""Every knob of the server: one field is a flag of `breadcrumbs serve`, an environment variable and a documented row.

The text below a field is its help and its row in `docs/serving.md`; the environment variable is `BREADCRUMBS_` and the
field's name in capitals. Nothing else in the package reads the environment, and nothing here knows what a knob does.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

import models

MIB = 2**20


class Settings(BaseSettings):
    """The server's settings; frozen, checked when made."""

    model_config = SettingsConfigDict(
        frozen=True, env_prefix="BREADCRUMBS_", extra="forbid", use_attribute_docstrings=True
    )

    bundle: Path = Path(models.__file__).parent / "demo"
    """Folder of the bundle to serve, as `breadcrumbs train` writes it."""
    store: str = "store"
    """Where heads, snapshots, refits and the log of what went live are kept: a folder, made if missing, or `s3://`,
    `gs://` or `az://` with bucket and prefix. It is all the state there is: keep it where it survives the container."""
    follow: float = Field(default=0.5, ge=0, le=3600)
    """Seconds between two looks at what other servers on this store did, heads and refits; 0: never."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every interface, which needs `keys`."""
    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port; 0 lets the system choose a free one."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes on this port and store. Queue and limits are each one's own; cores are shared out. More than one pays
    where a machine has more cores than one server can use; a GPU is best fed by one."""
    keys: Path | None = None
    """File of the keys that may come in, made by `breadcrumbs keys add`; none: everybody may do everything, which only
    a server of this machine alone may say."""
    insecure: bool = False
    """Listen on other addresses than this machine's without keys: a proxy in front authenticates."""
    origins: tuple[str, ...] = ()
    """Web pages of other servers that may ask, as `https://lab.example`; a browser is told so (CORS). In the
    environment a JSON list."""
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    """Where the models run. `auto` takes the GPU if there is one, else the CPU, and logs which; a GPU that cannot be
    used stops the start. `cuda` asks for one: say it in production, so that a missing driver is seen at once.
    `tensorrt` is `cuda` with the backbone in TensorRT, whose libraries you install."""
    tensorrt_cache: Path | None = None
    """Folder where TensorRT keeps the engines it built; none: it builds anew at each start, which takes minutes."""
    threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads that compute; 0: one a core. A lone image takes all; under load each has a batch of its own."""
    precision: Literal["full", "half"] = "full"
    """Of the backbone: `half` takes the bundle's half-precision one, which is faster on a GPU and slower on a CPU."""
    max_batch: int = Field(default=32, ge=1, le=4096)
    """Images computed together at most. Larger: more images a second under load and more memory; idle latency does not
    change, since nothing waits for company."""
    queue: int = Field(default=256, ge=1, le=1_000_000)
    """Images that may wait at most; beyond it a request is refused at once with 503 and `Retry-After`. About
    `deadline` times the images a second that the machine reaches."""
    deadline: float = Field(default=10.0, gt=0, le=3600)
    """Seconds that a request may take from its last byte to its answer; then it is given up with 503 and not
    computed."""
    decode_threads: int = Field(default=0, ge=0, le=256)
    """Threads that only decode images; 0: on the CPU none, since those that compute decode too, beside a GPU one a
    core."""
    max_image_bytes: int = Field(default=20 * MIB, ge=1)
    """Bytes of one encoded image at most."""
    max_pixels: int = Field(default=50_000_000, ge=1)
    """Pixels of one image at most, found in its header before it is decoded; decoding takes about 7 bytes a pixel of a
    JPEG, 20 of a PNG, 28 of a WebP at most, in each thread."""
    max_images: int = Field(default=64, ge=1, le=100_000)
    """Images in one request at most."""
    max_body_bytes: int = Field(default=64 * MIB, ge=1)
    """Bytes of one predict or features request at most, all its images together."""
    max_snapshot_bytes: int = Field(default=2048 * MIB, ge=1)
    """Bytes of one uploaded snapshot at most; it goes to disk, not to memory."""
    max_held_bytes: int = Field(default=512 * MIB, ge=1)
    """Bytes that the bodies of all requests together may have in memory; beyond it requests are refused with 503."""
    max_uploads: int = Field(default=16, ge=1, le=10_000)
    """Uploads of snapshots under way at most; beyond it they are refused with 503."""
    max_store_bytes: int = Field(default=64 * 1024 * MIB, ge=0)
    """Bytes that everything in the store may have together; beyond it uploads are refused with 507; 0: no limit but the
    disk's. `breadcrumbs store gc` makes room."""
    receipt: float = Field(default=30.0, gt=0, le=3600)
    """Seconds that a request may take to arrive, and one more for each 64 KiB of its body; then 408."""
    max_snapshots: int = Field(default=32, ge=1, le=10_000)
    """Snapshots that one refit may name at most."""
    refit: Literal["here", "elsewhere", "off"] = "here"
    """Where the refits that are started here run. Of all servers on one store one says `here`; `elsewhere`: that one
    runs them, and this one starts, shows and cancels them like its own; `off`: this server only answers and swaps."""
    refit_queue: int = Field(default=8, ge=0, le=10_000)
    """Refits that may wait behind the running one at most; beyond it they are refused with 503."""
    refit_timeout: float = Field(default=3600.0, gt=0)
    """Seconds that one refit may take; then its process is stopped and the refit has failed."""
    refit_memory: int = Field(default=0, ge=0)
    """Bytes of memory that a refit's process may have, or it is stopped; 0: three quarters of the machine's or the
    container's. What it maps from files does not count."""
    access_log: bool = True
    """Write one line a request: route, status, duration, queue and compute time, head version, request id."""
    otlp_endpoint: str | None = None
    """Where each request is sent as an OpenTelemetry span (OTLP over HTTP), as `http://collector:4318/v1/traces`; needs
    the extra `otel`."""

    @model_validator(mode="after")
    def _check_following(self) -> Self:
        if not self.follow and (self.workers > 1 or self.refit == "elsewhere"):
            raise ValueError("follow: 0 goes neither with several workers nor with refit = elsewhere, which must look")
        return self
