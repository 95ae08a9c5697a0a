"""Prints what the environment that runs it has installed, as a CycloneDX bill of materials (SBOM).

    python requirements/sbom.py > sbom.cdx.json

Both images have theirs in `/opt/breadcrumbs/sbom.cdx.json`. The same packages give the same bytes. It knows nothing of
Debian's packages; `docker buildx build --sbom=true` lists those as well.
"""

import json
import sys
from importlib.metadata import Distribution, distributions
from typing import Any

OURS = "breadcrumbs-longtail"


def component(one: Distribution) -> dict[str, Any]:
    """A package: its name, version and licence, and where it comes from as a package URL."""
    name = one.name.lower().replace("_", "-")
    purl = f"pkg:pypi/{name}@{one.version}"
    found = {"type": "library", "bom-ref": purl, "name": name, "version": one.version, "purl": purl}
    return found | {"licenses": licenses(one)}


def licenses(one: Distribution) -> list[dict[str, Any]]:
    """The licence as the package's metadata says it: an SPDX expression, or else names; empty where it says none."""
    if expression := one.metadata.get("License-Expression"):
        return [{"expression": expression}]
    kinds = [line for line in one.metadata.get_all("Classifier", []) if line.startswith("License :: ")]
    names = [kind.rpartition(" :: ")[2] for kind in kinds if not kind.endswith(":: OSI Approved")]
    words = (one.metadata.get("License") or "").strip()
    if not names and words and "\n" not in words:  # some have the whole text there
        names = [words]
    return [{"license": {"name": name}} for name in names]


def main() -> None:
    """Print it."""
    found = {part["bom-ref"]: part for part in map(component, distributions())}
    ours = next((part for part in found.values() if part["name"] == OURS), None)
    told: dict[str, Any] = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}
    if ours is not None:
        told["metadata"] = {"component": {**found.pop(ours["bom-ref"]), "type": "application"}}
    json.dump(told | {"components": [found[key] for key in sorted(found)]}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
