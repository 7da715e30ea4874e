"""The commands of a page of the manual, as a shell script that stops at the first one that fails."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from tools.steps import Trouble

BLOCK = re.compile(
    r"^(?P<before>.*)\n\n\.\. code-block:: (?P<kind>sh|python)\n\n(?P<text>(?:    .*\n|\n)+)", re.MULTILINE
)
FILE = re.compile(r"``([\w./]+)``")
PROJECT = "/srv/shop"
CLONE = "/path/to/wsgi_persist"


def script(page: Path, clone: str) -> str:
    """Shell blocks as they stand; Python blocks go to the end of the file that the line before names."""
    text = page.read_text()
    parts = [_part(found) for found in BLOCK.finditer(text)]
    if len(parts) != text.count(".. code-block::"):
        raise Trouble(f"{page} has a block that is neither for a shell nor for a file")
    return "".join(parts).replace(CLONE, clone)


def _part(found: re.Match[str]) -> str:
    text = textwrap.dedent(found["text"]).strip() + "\n"
    if found["kind"] == "sh":
        return text
    (name,) = FILE.findall(found["before"])
    return f"cat >> {PROJECT}/{name} << 'END'\n\n{text}END\n"
