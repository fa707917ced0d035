"""The bill of materials of the image that it runs in, as CycloneDX 1.6 JSON on standard output.

Every Python distribution of every interpreter and virtual environment in it, and every Debian package where dpkg is
there, with the licences that they state. Standard library only: it runs at build, in the final stage. There is no time
in it, so that the same packages give the same bytes. https://cyclonedx.org/docs/1.6/json/
"""

import json
import re
import shutil
import subprocess
import sys
import uuid
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

INSTALLED = ("/usr", "/opt")
DIRECTORIES = ("site-packages", "dist-packages")
LONGEST_LICENCE = 120
DOCUMENTATION = Path("/usr/share/doc")
DEBIAN_FIELDS = ("Package", "Version", "Architecture", "db:Status-Status")
Component = dict[str, Any]


def bill(name: str, revision: str) -> dict[str, Any]:
    components = sorted([*python_packages(), *debian_packages()], key=lambda one: one["purl"])
    content = json.dumps([name, revision, components])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": name, "name": name, "version": revision}},
        "components": components,
    }


def python_packages() -> list[Component]:
    """Once each, though two virtual environments have the same one."""
    found: dict[str, Component] = {}
    for one in distributions(path=[str(place) for place in _packages_directories()]):
        name = re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower()
        purl = f"pkg:pypi/{name}@{quote(one.version)}"
        found[purl] = _component(one.metadata["Name"], one.version, purl, _licences(one))
    return list(found.values())


def _packages_directories() -> list[Path]:
    return [place for root in INSTALLED for name in DIRECTORIES for place in sorted(Path(root).rglob(name))]


def debian_packages() -> list[Component]:
    if not shutil.which("dpkg-query"):
        return []
    shown = "\\t".join(f"${{{field}}}" for field in DEBIAN_FIELDS) + "\\n"
    query = ["dpkg-query", "--show", f"--showformat={shown}"]
    lines = subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()  # noqa: S603
    system = _os_release()
    components = []
    for name, version, architecture, status in (line.split("\t") for line in lines):
        if status == "installed":
            where = f"arch={architecture}&distro={system['ID']}-{system.get('VERSION_ID', 'unstable')}"
            purl = f"pkg:deb/{system['ID']}/{quote(name)}@{quote(version)}?{where}"
            components.append(_component(name, version, purl, _debian_licences(name)))
    return components


def _component(name: str, version: str, purl: str, licences: list[Component]) -> Component:
    component = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    return {**component, "licenses": licences} if licences else component


def _licences(one: Distribution) -> list[Component]:
    """The SPDX expression if it has one, else the classifiers, else the first line of the old free text."""
    if expression := one.metadata.get("License-Expression"):
        return [{"expression": expression}]
    classified = [text.split(" :: ")[-1] for text in one.metadata.get_all("Classifier", []) if "License ::" in text]
    free = (one.metadata.get("License") or "").strip().split("\n")[0][:LONGEST_LICENCE]
    return [{"license": {"name": name}} for name in classified or [free] if name]


def _debian_licences(package: str) -> list[Component]:
    """The short names in a machine-readable copyright file; in the others, the common licences that the prose names."""
    path = DOCUMENTATION / package / "copyright"
    text = path.read_text(errors="replace") if path.is_file() else ""
    machine_readable = "copyright-format" in text.partition("\n\n")[0]
    pattern = r"^License:[ \t]*(\S.*)$" if machine_readable else r"/common-licenses/([A-Za-z0-9.-]*[A-Za-z0-9])"
    names = {name.strip() for name in re.findall(pattern, text, re.MULTILINE)}
    return [{"license": {"name": name}} for name in sorted(names)]


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}


if __name__ == "__main__":
    print(json.dumps(bill(sys.argv[1], sys.argv[2]), indent=1))
