"""Breadcrumbs: long-tailed image classification, from a folder of images to a live HTTP endpoint.

`Client` and `AsyncClient` talk to a server, and raise `ServerError` and `InputError`; `breadcrumbs.models`,
`breadcrumbs.training` and `breadcrumbs.serving` are the three floors. Begin with `breadcrumbs.cli`, the command line.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from breadcrumbs.serving.client.async_client import AsyncClient
    from breadcrumbs.serving.client.client import Client
    from breadcrumbs.serving.client.images import InputError
    from breadcrumbs.serving.client.retries import ServerError

__all__ = ["AsyncClient", "Client", "InputError", "ServerError"]
_MODULES = {"AsyncClient": "async_client", "Client": "client", "InputError": "images", "ServerError": "retries"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing one part of the package loads only that part."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"breadcrumbs.serving.client.{_MODULES[name]}"), name)
