"""Base64 as clients write it. It knows nothing of what the bytes are."""

import base64

_PLAIN = str.maketrans("-_", "+/", "\r\n\t =")


def from_base64(text: str) -> bytes:
    """Return what base64 text stands for: in lines or not, URL-safe or not, without padding, or as a data URL.

    Raises:
        ValueError: it is not base64.
    """
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise ValueError(f"a data URL that begins {head!r:.40}; expected data:…;base64,…")
    plain = text.translate(_PLAIN)
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
