"""The shipped virtual host with its values set."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from wsgi_persist.command.refusal import Refused

_NAME = "apache/wsgi_persist.conf"


def shipped() -> str:
    """The text of the virtual host: of the installed package, or of the clone around it."""
    spec = find_spec("wsgi_persist.deploy")
    installed = list(spec.submodule_search_locations or ()) if spec else []
    clone = Path(__file__).parents[2] / "deploy"
    for folder in [*map(Path, installed), clone]:
        if (folder / _NAME).is_file():
            return (folder / _NAME).read_text(encoding="utf-8")
    raise Refused(f"{_NAME} is not installed with wsgi_persist: install the package again")


def render(defines: Mapping[str, str], remarks: Mapping[str, str]) -> str:
    """The file with these values; *remarks* say where one comes from.

    A Define before the file's own text is what the file itself asks for: it keeps defaults for the rest.
    """
    lines = ["# The values of this site, by `wsgi-persist apache`; what they mean is said below."]
    for name, value in defines.items():
        if remark := remarks.get(name):
            lines.append(f"# {' '.join(remark.split())}")
        lines.append(f'Define {name} "{value}"')
    return "\n".join([*lines, "", shipped()])
