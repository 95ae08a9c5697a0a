"""Breadcrumbs: long-tailed image classification, from a folder of images to a live HTTP endpoint.

`Client` and `AsyncClient` talk to a server; `breadcrumbs.models`, `breadcrumbs.training` and `breadcrumbs.serving` are
the three floors. Begin with `breadcrumbs.cli`, the command line.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from breadcrumbs.serving.client.async_client import AsyncClient
    from breadcrumbs.serving.client.client import Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    """Import a client when it is first asked for, so that importing a part of the package loads only that part."""
    if name == "Client":
        from breadcrumbs.serving.client.client import Client

        return Client
    if name == "AsyncClient":
        from breadcrumbs.serving.client.async_client import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
