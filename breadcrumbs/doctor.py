"""Checks an installation: versions, GPU, bundle, store, keys; and says of each problem how to fix it.

It looks only at what the settings name, and leaves nothing behind. It knows nothing of how its findings are printed.
"""

import asyncio
import platform
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata, util
from pathlib import Path

import onnxruntime as ort

from breadcrumbs.models.bundle import read as read_bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.environment import strangers
from breadcrumbs.serving.predict import devices
from breadcrumbs.serving.setting_names import PREFIX, both
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state import keys
from breadcrumbs.serving.state.store import Store
from breadcrumbs.surroundings import Finding, clock, links, machine, proxies

TORCH = "import torch; print(torch.__version__, torch.cuda.is_available())"


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything that a server with these settings needs."""
    checks: tuple[Callable[[Settings], Finding], ...] = (
        _python,
        machine,
        _engine,
        _gpu,
        _refits,
        _environment,
        lambda _: proxies(),
        _bundle,
        _precision,
        _store,
        lambda settings: asyncio.run(clock(settings)),
        _keys,
    )
    for check in checks:
        yield check(settings)


def _environment(_: Settings) -> Finding:
    strange = list(strangers())
    if strange:
        return Finding("environment", "note", "; ".join(strange))
    return Finding("environment", "good", f"every variable {PREFIX}… is a setting")


def _python(_: Settings) -> Finding:
    version = metadata.version("breadcrumbs-longtail")
    return Finding(
        "version", "good", f"breadcrumbs {version}, Python {platform.python_version()}, {platform.platform()}"
    )


def _engine(_: Settings) -> Finding:
    both = {"onnxruntime", "onnxruntime-gpu"} <= {dist.metadata["Name"] for dist in metadata.distributions()}
    text = f"ONNX Runtime {ort.__version__}: {', '.join(ort.get_available_providers())}"
    if both:
        remedy = "pip uninstall both, then install one of them"
        return Finding("engine", "bad", f"{text}; onnxruntime and onnxruntime-gpu overwrite each other", remedy)
    return Finding("engine", "good", text)


def _gpu(settings: Settings) -> Finding:
    reason = devices.cuda_defect()
    if reason is None:
        return Finding("GPU", "good", "a GPU is visible, and ONNX Runtime has what it needs")
    if settings.device in {"cuda", "tensorrt"} or devices.has_driver():
        return Finding("GPU", "bad", f"CUDA cannot be used: {reason}", f"fix that, or set {both('device')} to cpu")
    return Finding("GPU", "note", f"none, the CPU is used: {reason}")


def _refits(settings: Settings) -> Finding:
    """Ask torch in a process of its own, as a refit would load it."""
    if settings.refit != "here":
        return Finding("refits", "note", f"not here (refit = {settings.refit})")
    if util.find_spec("torch") is None:
        return Finding(
            "refits",
            "note",
            "torch is not installed: refits fail",
            f"install the extra `refit`, or set {both('refit')} to off",
        )
    done = subprocess.run([sys.executable, "-P", "-c", TORCH], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it died"])[-1]
        return Finding("refits", "bad", f"torch does not load: {why:.300}", "reinstall torch")
    version, seen = done.stdout.split()
    gpu, wish = seen == "True", settings.refit_device
    if not gpu and wish == "cuda":
        remedy = f"install a torch that is built for the driver's CUDA, or set {both('refit_device')} to auto"
        return Finding("refits", "bad", f"torch {version} sees no GPU, and refit_device is cuda: refits fail", remedy)
    if not gpu and wish == "auto" and devices.has_driver():
        text = f"torch {version} does not see the GPU: refits run on the CPU"
        return Finding("refits", "note", text, "install a torch that is built for the driver's CUDA")
    where = "on the CPU" if not gpu or wish == "cpu" else "on the GPU" if wish == "cuda" else "large ones on the GPU"
    return Finding("refits", "good", f"torch {version}, {where}")


def _bundle(settings: Settings) -> Finding:
    try:
        bundle = read_bundle(settings.bundle)
        bundle.head()
        if bundle.manifest.space is None:
            bundle.backbone("full" if settings.precision == "auto" else settings.precision)
        holdout = bundle.holdout()
    except BreadcrumbsError as error:
        return Finding(
            "bundle", "bad", str(error), f"name a complete one by {both('bundle')}; `breadcrumbs train` writes one"
        )
    manifest = bundle.manifest
    text = f"{settings.bundle}: {manifest.name}, {len(manifest.classes)} classes, all digests match"
    if manifest.space is not None:
        text += "; no backbone, so a server takes features only"
    if holdout is None:
        text += "; no hold-out, so a refit holds a share of its rows out"
    else:
        text += f"; hold-out of {len(holdout.labels)} rows in {int((holdout.counts() > 0).sum())} classes"
    return Finding("bundle", "good", text)


def _precision(settings: Settings) -> Finding:
    """The backbone that is asked for, beside those that the bundle has."""
    wish = settings.precision
    try:
        int8 = read_bundle(settings.bundle).has("int8")
    except BreadcrumbsError:
        return Finding("precision", "note", f"{wish} is asked for, of a bundle that cannot be read")
    on_gpu = settings.device != "cpu" and devices.cuda_defect() is None
    if wish == "int8" and on_gpu:
        remedy = f"set {both('precision')} to auto, or {both('device')} to cpu"
        return Finding("precision", "note", "int8 is asked for, which is no faster on a GPU", remedy)
    if wish in {"full", "half"} and int8 and not on_gpu:
        text = f"{wish}; the bundle has a backbone in int8 too, which is not used"
        return Finding("precision", "note", text, f"{both('precision')} auto takes it where it is faster")
    there = "the bundle has int8" if int8 else "the bundle has no int8"
    return Finding("precision", "good", f"{wish}; {there}")


def _store(settings: Settings) -> Finding:
    name = f"doctor-{secrets.token_hex(4)}"

    async def write() -> None:
        store = Store.open(settings.store)
        await store.create(name, b"x")
        await store.delete(name)

    try:
        asyncio.run(write())
    except BreadcrumbsError as error:
        if "://" not in settings.store and (why := links(Path(settings.store))):
            text = f"{settings.store} is on a file system without hard links ({why}): nothing can be stored there"
            return Finding("store", "bad", text, f"name a folder on another one (ext4, xfs, NFS) by {both('store')}")
        return Finding(
            "store",
            "bad",
            str(error).removeprefix("store: "),
            f"make it writable for this user, or name another by {both('store')}",
        )
    return Finding("store", "good", f"{settings.store} is writable")


def _keys(settings: Settings) -> Finding:
    if settings.keys is None:
        return Finding(
            "keys",
            "note",
            "none: anyone who can reach the server may do everything",
            f"`breadcrumbs keys add` creates one in a file, which {both('keys')} names",
        )
    try:
        found = keys.read(settings.keys).keys
    except BreadcrumbsError as error:
        return Finding("keys", "bad", str(error), f"name a file of keys by {both('keys')}")
    if not found:
        return Finding("keys", "bad", f"no keys in {settings.keys}: nobody can come in", keys.remedy(settings.keys))
    return Finding("keys", "good", f"{len(found)} keys in {settings.keys}")
