"""Environment variables with our prefix that are not settings: typing errors, and what Kubernetes sets by itself.

It knows nothing of what a setting does.
"""

import difflib
import logging
import os
import re
from collections.abc import Iterator, Mapping

from breadcrumbs.serving.setting_names import PREFIX, variable
from breadcrumbs.serving.settings import Settings

LOG = logging.getLogger("breadcrumbs.server")
OTHERS = ("key",)
"""Variables of ours that are not settings of the server: the key that the commands send."""
OF_SERVICE = re.compile(
    r"BREADCRUMBS_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""What Kubernetes sets in a pod for a Service whose name begins with `breadcrumbs`."""
ADDRESS = re.compile(r"(tcp|udp|sctp)://")
"""How the value of a Service's `…_PORT` begins."""


def strangers(environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield a sentence for each variable with our prefix that is not a setting, with the setting that was probably
    meant.
    """
    known = {variable(name) for name in (*Settings.model_fields, *OTHERS)}
    for name, value in sorted(environment.items()):
        called = name.upper()  # as settings are looked up
        if not called.startswith(PREFIX) or called in known or OF_SERVICE.fullmatch(called):
            continue
        if called.endswith("_PORT") and ADDRESS.match(value):
            continue
        near = difflib.get_close_matches(called.removeprefix(PREFIX).lower(), Settings.model_fields, 1)
        meant = f"did you mean {variable(near[0])}?" if near else "`breadcrumbs serve --help` lists the settings"
        yield f"{ascii(name)[1:-1]:.100} is no setting; {meant}"


def warn() -> None:
    """Log a warning for each variable that `strangers` yields."""
    for stranger in strangers():
        LOG.warning("%s", stranger)
