"""The settings of a Ray cluster: a field is a flag of `breadcrumbs cluster up` and a documented row.

What each server is told besides is `serving.settings`. It knows nothing of Ray.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from breadcrumbs.serving.settings import Settings

BESIDE = 64
"""Requests that a replica takes beside those that wait for images: event streams, uploads, questions."""


class ClusterSettings(BaseModel):
    """The cluster's settings; frozen, checked when made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    address: str | None = None
    """Address of the Ray cluster, for example `10.0.0.5:6379`. Default: the cluster that this machine belongs to, or
    else one that is started here and runs as long as the command."""
    name: str = Field(default="breadcrumbs", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Name of the application, to tell it from others on the cluster."""
    min_replicas: int = Field(default=1, ge=1, le=1000)
    """Smallest number of replicas; with two or more, one can be lost without an outage."""
    max_replicas: int = Field(default=4, ge=1, le=1000)
    """Largest number of replicas under load."""
    target: float = Field(default=16.0, gt=0, le=10_000)
    """Average number of requests in progress per replica that autoscaling aims at."""
    upscale_delay: float = Field(default=10.0, ge=0, le=3600)
    """Seconds above the target before a replica is added."""
    downscale_delay: float = Field(default=300.0, ge=0, le=86_400)
    """Seconds below the target before a replica is removed."""
    cpus: float = Field(default=1.0, gt=0, le=1024)
    """CPU cores per replica, and also its `threads` unless those are given."""
    gpus: float = Field(default=0.0, ge=0, le=16)
    """GPUs per replica: with 0.5, two share one; above 0, `device` becomes cuda unless it is given."""
    refit_cpus: float = Field(default=1.0, gt=0, le=1024)
    """CPU cores of a refit."""
    refit_gpus: float = Field(default=0.0, ge=0, le=16)
    """GPUs of a refit; with 0, its `refit_device` is cpu."""
    refit_retries: int = Field(default=3, ge=0, le=100)
    """How often a refit is restarted, elsewhere if need be, after its worker was lost."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is less than min_replicas {self.min_replicas}")
        for share in (self.gpus, self.refit_gpus):
            if share > 1 and share != round(share):
                raise ValueError(f"{share} GPUs: Ray gives parts of one, or several whole ones")
        return self

    def of_replica(self, settings: Settings) -> Settings:
        """Return the settings of each replica: its share of the machine, and no refits of its own.

        Raises:
            ValueError: several workers, follow 0, precision auto, port 0, or a device that contradicts `gpus` or
                `refit_gpus`.
        """
        if settings.workers > 1:
            raise ValueError(f"{settings.workers} workers: a replica is one process; pass --min-replicas instead")
        if settings.follow == 0:
            raise ValueError("follow 0: replicas learn from the store what is live")
        if settings.precision == "auto":
            raise ValueError("precision auto: all replicas need the same; pass full, half or int8")
        if settings.port == 0:
            raise ValueError("port 0: the proxies of all nodes listen on the same port; pass its number")
        if self.gpus == 0 and settings.device in {"cuda", "tensorrt"}:
            raise ValueError(f"device {settings.device}: a replica needs a share of a GPU; pass --gpus, as --gpus 0.5")
        if self.refit_gpus == 0 and settings.refit_device == "cuda":
            raise ValueError("refit_device cuda: a refit needs a GPU; pass --refit-gpus, as --refit-gpus 1")
        cores = max(1, round(self.cpus))
        device = settings.device if settings.device != "auto" else "cuda" if self.gpus else "cpu"
        refit = "elsewhere" if settings.refit == "here" else settings.refit
        solving = settings.refit_device if self.refit_gpus else "cpu"
        given = {"threads": settings.threads or cores, "device": device, "refit": refit, "refit_device": solving}
        if device != "cpu":
            given["decode_threads"] = settings.decode_threads or cores
        return settings.model_copy(update=given)

    def ongoing(self, settings: Settings) -> int:
        """Return the requests that a replica may have under way: as many as it refuses by itself, and some beside."""
        return settings.queue + settings.max_batch * max(1, settings.threads) + BESIDE
