"""Hostile files, built here byte by byte; none is kept on disk. It knows nothing of servers."""

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from models import snapshot as snapshots
from models import tensors

CLASSES = ("oak", "elm", "Wollemia nobilis")


class Bomb:
    """What runs when somebody unpickles it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch PWNED",)


def good(**changed: object) -> bytes:
    """A snapshot that is all right, or in which one thing is not."""
    whole = {"features": np.ones((6, 4), np.float32), "labels": np.arange(6) % 3, "classes": CLASSES} | changed
    classes = json.dumps(whole.pop("classes"))
    words = {"format": snapshots.FORMAT, "backbone": "b" * 64, "epoch": "1", "classes": classes, "created": ""}
    return tensors.encode(whole, words)


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    """A file with any header."""
    return struct.pack("<Q", len(header)) + header + data


def tampered(old: bytes, new: bytes) -> bytes:
    """A good snapshot with other words in its header."""
    whole = good()
    length = struct.unpack("<Q", whole[:8])[0]
    header = whole[8 : 8 + length]
    assert old in header
    return safetensors(header.replace(old, new), whole[8 + length :])


def npy(descr: str, shape: str, data: bytes = b"", length: int | None = None) -> bytes:
    """A .npy file that says what it is told to say."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) if length is None else length) + text + data


def npz(members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def parts(**changed: bytes) -> dict[str, bytes]:
    """The members of a good .npz snapshot, some replaced."""
    found = {}
    for name, value in (("features", np.ones((6, 4), np.float32)), ("labels", np.arange(6) % 3)):
        file = io.BytesIO()
        np.save(file, value)
        found[f"{name}.npy"] = file.getvalue()
    return found | {f"{name}.npy": data for name, data in changed.items()}


def pickled_npy() -> bytes:
    """An array of objects, which only unpickling reads."""
    file = io.BytesIO()
    np.save(file, np.array([Bomb()], object), allow_pickle=True)
    return file.getvalue()


def snapshot_files() -> Iterator[tuple[str, bytes]]:
    """Files that are uploaded as snapshots; every one must be refused."""
    yield "pickle", pickle.dumps(Bomb())
    yield "torch-zip", npz({"archive/data.pkl": pickle.dumps(Bomb()), "archive/version": b"3"})
    yield "pickled-member", npz(parts(features=pickled_npy()))
    yield "pickled-npy", pickled_npy()
    yield "npy-lies-32-gib", npz(parts(features=npy("'<f4'", "(2147483648, 4)")))
    yield "npy-overflows", npz(parts(features=npy("'<f4'", "(9223372036854775807, 9223372036854775807)")))
    yield "npy-negative", npz(parts(features=npy("'<f4'", "(-1, 4)")))
    yield "npy-header-runs", npz(parts(features=npy("__import__('os').system('touch PWNED')", "(1,)")))
    yield "npy-header-too-long", npz(parts(features=npy("'<f4'", "(6, 4)", length=65_535)))
    yield "npz-bomb", npz(parts(features=npy("'<f4'", "(67108864, 4)", bytes(2**28))))
    yield "npz-members", npz(parts() | {f"m{index}.npy": b"" for index in range(5_000)})
    yield "npz-traversal", npz(parts() | {"../../PWNED": b"x"})
    yield "npz-absolute", npz(parts() | {"/tmp/PWNED": b"x"})
    lying = bytearray(npz(parts(), zipfile.ZIP_STORED))
    place = lying.find(b"PK\x01\x02")
    lying[place + 24 : place + 28] = struct.pack("<I", 1)
    yield "npz-lying-size", bytes(lying)
    yield "npz-cut", npz(parts())[:-30]
    yield "huge-header-length", struct.pack("<Q", 2**62) + b"{}"
    yield "large-header", safetensors(b'{"a":"' + b"x" * 5_000_000 + b'"}')
    many = {f"t{index}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for index in range(60_000)}
    yield "many-tensors", safetensors(json.dumps(many).encode())
    yield "deep-header", safetensors(b"[" * 100_000)
    yield (
        "duplicate-key",
        tampered(b'"labels"', b'"features":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"labels"'),
    )
    yield "overlap", tampered(b'"data_offsets":[48,', b'"data_offsets":[44,')
    yield "out-of-range", tampered(b"[48,144]", b"[96,944]")
    yield "negative-offset", tampered(b"[48,144]", b"[-9,144]")
    yield "shape-overflows", tampered(b"[6,4]", b"[4611686018427387904,4]")
    yield "unknown-dtype", tampered(b'"F32"', b'"F99"')
    yield "bad-utf8", safetensors(b'{"\xff":1}')
    yield "nan", good(features=np.full((6, 4), np.nan, np.float32))
    yield "infinite", good(features=np.full((6, 4), np.inf, np.float32))
    yield "label-out-of-range", good(labels=np.full(6, 3))
    yield "label-negative", good(labels=np.full(6, -1))
    yield "another-dimension", good(features=np.ones((6, 9), np.float32))
    yield "no-rows", good(features=np.ones((0, 4), np.float32), labels=np.zeros(0, np.int64))
    yield "epoch-text", tampered(b'"epoch":"1"', b'"epoch":"x"')
    yield "epoch-huge", tampered(b'"epoch":"1"', b'"epoch":"9' + b"9" * 5_000 + b'"')
    yield "arrow", b"ARROW1\x00\x00" + b"\xff" * 200
    yield "parquet", b"PAR1" + b"\xff" * 200 + struct.pack("<I", 2**31 - 1) + b"PAR1"
    yield "empty", b""
    yield "text", b"features,labels\n1,2\n"


def png(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file of a claimed size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def images() -> Iterator[tuple[str, bytes]]:
    """Files that are sent as images; every one must be refused."""
    yield "png-bomb", png(9_000, 9_000, zlib.compress(bytes(9_000 * 27_001), 9))
    yield "png-claims-the-most", png(2**31 - 1, 2**31 - 1)
    yield "png-no-pixels", png(0, 5)
    yield "png-cut", png(8, 8, zlib.compress(bytes(8 * 25))[:5])
    yield "png-text-bomb", png(8, 8)[:33] + _text_chunk() + png(8, 8)[33:]
    yield "jpeg-claims-the-most", b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + bytes(9) + b"\xff\xd9"
    yield "jpeg-only-marker", b"\xff\xd8\xff"
    yield "webp-lies", b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\x0a\x00\x00\x00" + b"\xff" * 10
    yield "gif", b"GIF89a" + b"\x01\x00\x01\x00\x80\x00\x00" + bytes(6) + b";"
    yield "tiff", b"II*\x00\x08\x00\x00\x00" + bytes(64)
    yield "psd", b"8BPS\x00\x01" + bytes(64)
    yield "fits", b"SIMPLE  =                    T".ljust(2_880)
    yield "jpeg-2000", b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(64)
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(PWNED) (w) file\n"
    yield "pickle", pickle.dumps(Bomb())
    yield "empty", b""


def _text_chunk() -> bytes:
    body = b"k\x00\x00" + zlib.compress(bytes(50_000_000), 9)
    return struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
