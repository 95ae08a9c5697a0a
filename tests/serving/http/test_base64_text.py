"""Base64 as browsers, scripts and mail programs write it."""

import base64
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.serving.http.base64_text import from_base64

PREFIXES = ("", "data:image/png;base64,", "DATA:;base64,", "data:image/svg+xml;charset=utf-8;base64,")


@given(
    data=st.binary(max_size=300),
    prefix=st.sampled_from(PREFIXES),
    safe=st.booleans(),
    padded=st.booleans(),
    width=st.sampled_from([0, 1, 64, 76]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_every_way_of_writing_it_is_read(
    data: bytes, prefix: str, safe: bool, padded: bool, width: int, end: str
) -> None:
    """URL-safe or not, padded or not, in lines or in one, alone or as a data URL: the same bytes."""
    text = (base64.urlsafe_b64encode if safe else base64.b64encode)(data).decode()
    text = text if padded else text.rstrip("=")
    text = end.join(textwrap.wrap(text, width)) + end if width else text

    assert from_base64(prefix + text) == data


@pytest.mark.parametrize("text", ["***", "data:image/png,abc", "data:image/png;base64", "a", "ä"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    """With an error that a route can tell."""
    with pytest.raises(ValueError, match=r".") as refusal:
        from_base64(text)
    assert "format specifier" not in str(refusal.value)
