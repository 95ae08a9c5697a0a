"""Hostile files, built here byte by byte; none is kept on disk. It knows nothing of servers."""

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from breadcrumbs.models import safetensor
from breadcrumbs.models.snapshots import snapshot as snapshots

CLASSES = ("oak", "elm", "Wollemia nobilis")
NOT_AN_IMAGE = "not a JPEG, PNG or WebP image"


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
    return safetensor.encode(whole, words)


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


def snapshot_files() -> Iterator[tuple[str, bytes, int, str]]:
    """Files that are uploaded as snapshots: name, bytes, and with which status and words each must be refused."""
    yield "pickle", pickle.dumps(Bomb()), 422, "a pickle, which is never read"
    yield (
        "torch-zip",
        npz({"archive/data.pkl": pickle.dumps(Bomb()), "archive/version": b"3"}),
        422,
        "unexpected zip member 'archive/data.pkl'",
    )
    yield "pickled-member", npz(parts(features=pickled_npy())), 422, "dtype object: its elements are pickles"
    yield "pickled-npy", pickled_npy(), 422, "got a single .npy array"
    yield (
        "npy-lies-32-gib",
        npz(parts(features=npy("'<f4'", "(2147483648, 4)"))),
        422,
        "of <f4 takes 34359738368 bytes; 0 follow the header",
    )
    yield (
        "npy-overflows",
        npz(parts(features=npy("'<f4'", "(9223372036854775807, 9223372036854775807)"))),
        422,
        "none negative or huge, got (9223372036854775807",
    )
    yield (
        "npy-negative",
        npz(parts(features=npy("'<f4'", "(-1, 4)"))),
        422,
        "none negative or huge, got (-1, 4)",
    )
    yield (
        "npy-header-runs",
        npz(parts(features=npy("__import__('os').system('touch PWNED')", "(1,)"))),
        422,
        ".npy header cannot be read: malformed node or string",
    )
    yield (
        "npy-header-too-long",
        npz(parts(features=npy("'<f4'", "(6, 4)", length=65_535))),
        422,
        ".npy header cannot be read: EOF: reading array header, expected 65535 bytes",
    )
    yield (
        "npz-bomb",
        npz(parts(features=npy("'<f4'", "(67108864, 4)", bytes(2**28)))),
        413,
        "would inflate to 268435709; the limit is 200 to 1",
    )
    yield (
        "npz-members",
        npz(parts() | {f"m{index}.npy": b"" for index in range(5_000)}),
        422,
        "; the limit is 65536",
    )
    yield "npz-traversal", npz(parts() | {"../../PWNED": b"x"}), 422, "unexpected zip member '../../PWNED'"
    yield "npz-absolute", npz(parts() | {"/tmp/PWNED": b"x"}), 422, "unexpected zip member '/tmp/PWNED'"
    lying = bytearray(npz(parts(), zipfile.ZIP_STORED))
    place = lying.find(b"PK\x01\x02")
    lying[place + 24 : place + 28] = struct.pack("<I", 1)
    yield "npz-lying-size", bytes(lying), 422, "damaged zip member: Bad CRC-32"
    yield "npz-cut", npz(parts())[:-30], 422, "damaged zip archive: File is not a zip file"
    yield "huge-header-length", struct.pack("<Q", 2**62) + b"{}", 422, "header said to have 4611686018427387904"
    yield (
        "large-header",
        safetensors(b'{"a":"' + b"x" * 5_000_000 + b'"}'),
        422,
        "header has 5000008 bytes; the limit is 4194304",
    )
    many = {f"t{index}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for index in range(60_000)}
    yield "many-tensors", safetensors(json.dumps(many).encode()), 422, "unexpected tensor 't0'"
    yield "deep-header", safetensors(b"[" * 100_000), 422, "not a snapshot"
    yield (
        "duplicate-key",
        tampered(b'"labels"', b'"features":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"labels"'),
        422,
        "names 'features' twice",
    )
    yield "overlap", tampered(b"[48,144]", b"[44,140]"), 422, "begins at byte 44; expected 48 (a gap, or an overlap)"
    yield "out-of-range", tampered(b"[48,144]", b"[96,944]"), 422, "does not fill data_offsets [96, 944]"
    yield "negative-offset", tampered(b"[48,144]", b"[-9,144]"), 422, "must be whole numbers, not negative"
    yield "shape-overflows", tampered(b"[6,4]", b"[4611686018427387904,4]"), 422, "must be whole numbers, not negative"
    yield "unknown-dtype", tampered(b'"F32"', b'"F99"'), 422, "expected dtype F32 or F16 or BF16, got 'F99'"
    yield "bad-utf8", safetensors(b'{"\xff":1}'), 422, "header is not JSON"
    yield "nan", good(features=np.full((6, 4), np.nan, np.float32)), 422, "6 of 6 rows have values that are not finite"
    yield (
        "infinite",
        good(features=np.full((6, 4), np.inf, np.float32)),
        422,
        "6 of 6 rows have values that are not finite",
    )
    yield (
        "label-out-of-range",
        good(labels=np.full(6, 3)),
        422,
        "labels: 6 outside 0 … 2, or −1 for none; the first",
    )
    yield "label-negative", good(labels=np.full(6, -2)), 422, "labels: 6 outside 0 … 2, or −1 for none; the first is -2"
    yield "another-dimension", good(features=np.ones((6, 9), np.float32)), 422, "expected features of 4 dimensions"
    yield "no-rows", good(features=np.ones((0, 4), np.float32), labels=np.zeros(0, np.int64)), 422, "got (0, 4)"
    yield "epoch-text", tampered(b'"epoch":"1"', b'"epoch":"x"'), 422, "expected a whole number, got 'x'"
    yield (
        "epoch-huge",
        tampered(b'"epoch":"1"', b'"epoch":"9' + b"9" * 5_000 + b'"'),
        422,
        "expected a whole number, got '9999",
    )
    yield "arrow", b"ARROW1\x00\x00" + b"\xff" * 200, 422, "damaged Arrow file"
    yield "parquet", b"PAR1" + b"\xff" * 200 + struct.pack("<I", 2**31 - 1) + b"PAR1", 422, "damaged Parquet file"
    yield "empty", b"", 422, "got 0 bytes"
    yield "text", b"features,labels\n1,2\n", 422, "expected safetensors, .npz, Parquet or Arrow, got 20 bytes"


def png(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file of a claimed size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg_of_scans(width: int, height: int, count: int) -> bytes:
    """A grey progressive JPEG: each scan after the first says in a few bytes that nothing changes, block by block."""

    def segment(code: int, body: bytes) -> bytes:
        return bytes((0xFF, code)) + struct.pack(">H", len(body) + 2) + body

    def packed(bits: str) -> bytes:
        bits += "1" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\x00")

    blocks = -(-width // 8) * -(-height // 8)
    runs = "0" + "0" * 14  # a run of 2^14 blocks without a coefficient: its code is one 0, its other 14 bits are 0
    steps = [(k, high) for k in range(1, 64) for high in range(14)]  # each bit of each coefficient
    file = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
    file += segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
    file += segment(0xC4, b"\0\1" + bytes(15) + b"\0") + segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")
    file += segment(0xDA, b"\1\1\0\0\0\x0d") + packed("0" * blocks)
    later = packed(runs * -(-blocks // 2**14))
    for place in range(count - 1):
        k, done = steps[place % len(steps)]
        file += segment(0xDA, bytes((1, 1, 0, k, k, (14 - done) % 14 << 4 | 13 - done))) + later
    return file + b"\xff\xd9"


def images() -> Iterator[tuple[str, bytes, int, str]]:
    """Files that are sent as images: name, bytes, and with which status and words each must be refused."""
    yield (
        "png-bomb",
        png(12_000, 12_000, zlib.compress(bytes(12_000 * 36_001), 9)),
        413,
        "image has 12000 x 12000 = 144000000 pixels; the limit is 120000000",
    )
    yield "png-claims-the-most", png(2**31 - 1, 2**31 - 1), 413, "= 4611686014132420609 pixels"
    yield "png-no-pixels", png(0, 5), 422, "damaged image: the header of this PNG cannot be read"
    yield "png-cut", png(8, 8, zlib.compress(bytes(8 * 25))[:5]), 422, "image file is truncated"
    yield "jpeg-scans", jpeg_of_scans(8_000, 6_000, 6_000), 413, "the JPEG has 6000 scans; the limit is 64"
    yield "jpeg-segments", b"\xff\xd8" + b"\xff\xe5\x00\x02" * 4_000_000, 413, "more than 10000 segments or chunks"
    yield (
        "png-profiles",
        png(8, 8)[:33] + _profile() * 15_000 + png(8, 8)[33:],
        413,
        "more than 10000 segments or chunks",
    )
    yield "png-text-bomb", png(8, 8)[:33] + _text_chunk() + png(8, 8)[33:], 422, "Decompressed data too large"
    yield (
        "jpeg-claims-the-most",
        b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + bytes(9) + b"\xff\xd9",
        413,
        "= 4294836225 pixels",
    )
    yield "jpeg-only-marker", b"\xff\xd8\xff", 422, "damaged image: the header of this JPEG cannot be read"
    yield (
        "webp-lies",
        b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\x0a\x00\x00\x00" + b"\xff" * 10,
        413,
        "= 281474976710656 pixels",
    )
    yield "gif", b"GIF89a" + b"\x01\x00\x01\x00\x80\x00\x00" + bytes(6) + b";", 422, "image"
    yield "tiff", b"II*\x00\x08\x00\x00\x00" + bytes(64), 422, "image"
    yield "psd", b"8BPS\x00\x01" + bytes(64), 422, NOT_AN_IMAGE
    yield "fits", b"SIMPLE  =                    T".ljust(2_880), 422, NOT_AN_IMAGE
    yield "jpeg-2000", b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(64), 422, NOT_AN_IMAGE
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', 422, NOT_AN_IMAGE
    yield "eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(PWNED) (w) file\n", 422, NOT_AN_IMAGE
    yield "pickle", pickle.dumps(Bomb()), 422, NOT_AN_IMAGE
    yield "empty", b"", 422, "image 1 of 1 is empty"


def _profile() -> bytes:
    body = b"p\x00\x00" + zlib.compress(bytes(2**20), 9)
    return struct.pack(">I", len(body)) + b"iCCP" + body + struct.pack(">I", zlib.crc32(b"iCCP" + body))


def _text_chunk() -> bytes:
    body = b"k\x00\x00" + zlib.compress(bytes(50_000_000), 9)
    return struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
