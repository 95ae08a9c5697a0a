"""Which server a command asks, and with which key: flags that several commands have."""

from typing import Annotated

from cyclopts import Parameter

LOCAL = "http://127.0.0.1:8000"
Server = Annotated[str, Parameter(help="URL of the server.")]
Key = Annotated[
    str | None, Parameter(env_var="BREADCRUMBS_KEY", show_default=False, help="API key for the server, if it has keys.")
]
Line = Annotated[
    str | None, Parameter(help="Line of the server; default: the first one of the key, or the default one.")
]
