"""The kind of a file, by its first bytes, and the remedy for kinds that are not read.

The suffix is ignored: phones and web sites write JPEGs as `.png` and HEIC as `.jpg`. It knows nothing of how
images are decoded.
"""

from dataclasses import dataclass

HEAD = 512
"""Bytes needed to recognise every kind."""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: its common name.
        pillow: the name of Pillow's reader, for images that are read.
        extra: whether it is read only where the extra `formats` is installed.
        remedy: what to do with a file that is not read.
    """

    name: str
    pillow: str | None = None
    extra: bool = False
    remedy: str = ""


_CONVERT = "convert it to JPEG or PNG, for example with `magick in.{} out.jpg`"


def _image(name: str, suffix: str, pillow: str | None = None) -> Kind:
    remedy = _CONVERT.format(suffix)
    if pillow is not None:
        remedy += ", or install the extra: pip install 'breadcrumbs-longtail[formats]'"
    return Kind(name, pillow, pillow is not None, remedy)


JPEG, PNG, WEBP = Kind("JPEG", "JPEG"), Kind("PNG", "PNG"), Kind("WebP", "WEBP")
HEIC, AVIF = _image("HEIC", "heic", "HEIF"), _image("AVIF", "avif", "AVIF")
GIF, BMP, TIFF = _image("GIF", "gif", "GIF"), _image("BMP", "bmp", "BMP"), _image("TIFF", "tif", "TIFF")
EMPTY = Kind("an empty file", remedy="copy or download it again")
UNKNOWN = Kind("unknown")
_RAW = "export it as JPEG from the camera's or a photo program"
_BEGINNINGS: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\xff\xd8\xff", JPEG),
    (0, b"\x89PNG\r\n\x1a\n", PNG),
    (0, b"GIF8", GIF),
    (0, b"BM", BMP),
    (0, b"FUJIFILMCCD-RAW", Kind("a raw photo (RAF)", remedy=_RAW)),
    (8, b"CR\x02\0", Kind("a raw photo (CR2)", remedy=_RAW)),
    (4, b"ftypcrx ", Kind("a raw photo (CR3)", remedy=_RAW)),
    (0, b"IIU\0", Kind("a raw photo (RW2)", remedy=_RAW)),
    (0, b"IIRO", Kind("a raw photo (ORF)", remedy=_RAW)),
    (0, b"II*\0", TIFF),
    (0, b"MM\0*", TIFF),
    (0, b"II+\0", TIFF),
    (0, b"MM\0+", TIFF),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", _image("JPEG 2000", "jp2")),
    (0, b"\xff\x4f\xff\x51", _image("JPEG 2000", "j2k")),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", _image("JPEG XL", "jxl")),
    (0, b"\xff\x0a", _image("JPEG XL", "jxl")),
    (0, b"\xff\xd8\xff\xf7", _image("JPEG-LS", "jls")),
    (0, b"8BPS", _image("Photoshop (PSD)", "psd")),
    (0, b"\0\0\1\0", _image("an icon (ICO)", "ico")),
    (0, b"qoif", _image("QOI", "qoi")),
    (0, b"DDS ", _image("DDS", "dds")),
    (0, b"v/1\1", _image("OpenEXR", "exr")),
    (0, b"#?RADIANCE", _image("Radiance HDR", "hdr")),
    (0, b"SIMPLE  =", _image("FITS", "fits")),
    (128, b"DICM", _image("DICOM", "dcm")),
    (0, b"%PDF", _image("PDF", "pdf")),
    (0, b"%!PS", _image("PostScript", "eps")),
    (0, b"\x1aE\xdf\xa3", Kind("a video (Matroska)", remedy="take pictures out of it first")),
    (0, b"PK\3\4", Kind("a zip archive", remedy="unpack it first")),
    (0, b"\x1f\x8b", Kind("gzip", remedy="unpack it first")),
    (0, b"version https://git-lfs", Kind("a git-lfs pointer", remedy="fetch the file itself with `git lfs pull`")),
)
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), HEIC),
    **dict.fromkeys((b"avif", b"avis"), AVIF),
}
"""The brands in the first box of an ISO media file."""
_MARKUP: tuple[tuple[bytes, Kind], ...] = (
    (b"<svg", _image("SVG", "svg")),
    (b"<!doctype html", Kind("a web page", remedy="the download failed; get the image itself")),
    (b"<html", Kind("a web page", remedy="the download failed; get the image itself")),
    (b"<?xml", Kind("XML", remedy="get the image itself")),
    (b"{", Kind("JSON text", remedy="get the image itself")),
)


def kind_of(head: bytes) -> Kind:
    """Return the kind of a file from its first `HEAD` bytes, or all of them where it is shorter."""
    if not head:
        return EMPTY
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WEBP
    fitting = [known for known in _BEGINNINGS if head.startswith(known[1], known[0])]
    if fitting and not (fitting[0][2] is BMP and any(head[6:10])):  # text may begin with the letters BM
        return max(fitting, key=lambda known: len(known[1]))[2]
    return _media(head) if head[4:8] == b"ftyp" else _markup(head)


def _media(head: bytes) -> Kind:
    """An ISO media file by its brands: the first, and those that it is compatible with."""
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(len(head), 64), 4))]
    found = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
    if AVIF in found[:1] or (AVIF in found and brands[0] in {b"mif1", b"msf1"}):
        return AVIF
    return found[0] if found else Kind("a video (MP4)", remedy="take pictures out of it first")


def _markup(head: bytes) -> Kind:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<?xml") and b"<svg" in text:
        return _MARKUP[0][1]
    return next((kind for beginning, kind in _MARKUP if text.startswith(beginning)), UNKNOWN)


def jpeg_process(data: bytes) -> str | None:
    """What a JPEG's frame says that no decoder here can do; None where there is no such thing.

    Args:
        data: the file, or as much of it as holds the frame's header.
    """
    place = 2
    while place + 9 < len(data):
        if data[place] != 0xFF:
            place += 1
            continue
        code = data[place + 1]
        if code in {0xC3, 0xC7, 0xCB, 0xCF}:
            return "lossless JPEG"
        if code in {0xC5, 0xC6, 0xCD, 0xCE}:
            return "hierarchical JPEG"
        if 0xC0 <= code <= 0xCF and code not in {0xC4, 0xC8, 0xCC}:
            return None if data[place + 4] == 8 else f"JPEG of {data[place + 4]} bits a channel"
        if code == 0xDA:
            return None
        place += (
            2 if code in {0x00, 0x01, 0xFF, *range(0xD0, 0xD9)} else 2 + int.from_bytes(data[place + 2 : place + 4])
        )
    return None
