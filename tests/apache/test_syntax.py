"""The check of the shipped files finds what it is there for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import pytest
import trustme

from tests.apache.conftest import require_tls
from tools import httpd, syntax
from tools.apache import VHOST, VHOSTS, public_folder
from tools.httpd import ApacheError, Httpd

pytestmark = pytest.mark.apache


@pytest.fixture
def root() -> Iterator[Path]:
    root = public_folder("check")
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(root / "tls.pem")
    yield root
    rmtree(root)


@pytest.mark.parametrize("file", syntax.files(), ids=lambda file: file.name)
def test_shipped_file(file: Path, generation: Httpd, root: Path) -> None:
    if objection := syntax.objection(file, generation):
        pytest.skip(objection)
    syntax.check(file, generation, root)


def test_option_that_only_the_newer_mod_wsgi_knows(debian: Httpd, root: Path) -> None:
    (root / "newer.conf").write_text("WSGIDaemonProcess site interrupt-timeout=5\n")
    syntax.check(root / "newer.conf", httpd.pypi(), root)
    with pytest.raises(ApacheError, match=r"newer\.conf, mod_wsgi of Debian:\n(.*\n)+Invalid option"):
        syntax.check(root / "newer.conf", debian, root)


def test_warning_is_an_error(root: Path) -> None:
    (root / "warns.conf").write_text("Alias /a /tmp/\nAlias /a/b /tmp/\n")
    with pytest.raises(ApacheError, match="will probably never match"):
        syntax.check(root / "warns.conf", httpd.pypi(), root)


def test_several_sites_over_tls(root: Path) -> None:
    """As the comment in sites.conf has it."""
    require_tls()
    text = (VHOSTS / "sites.conf").read_text()
    certificate = f"Define PERSIST_CERTIFICATE {root}/tls.pem\nDefine PERSIST_KEY {root}/tls.pem\n"
    own = text.replace("    Include", f"{certificate}    Include").replace(
        VHOST.name + '"\n</', 'tls.conf"\n</'
    )
    assert own.count("tls.conf") == text.count("tls.conf") + 1
    (root / "sites.conf").write_text(own)
    syntax.check(root / "sites.conf", httpd.pypi(), root)


@pytest.mark.parametrize(
    ("own", "origin"),
    [
        ({}, "https://shop.example.org/"),
        ({"PERSIST_PORT": "8443"}, "https://shop.example.org:8443/"),
        ({"PERSIST_PORT": "8443", "PERSIST_ORIGIN": "https://shop.example.org"}, "https://shop.example.org/"),
    ],
    ids=str,
)
def test_where_visitors_without_tls_are_sent_to(own: dict[str, str], origin: str, root: Path) -> None:
    server = require_tls()
    if not (server.modules / "mod_info.so").exists():
        pytest.skip(f"{server.name} has no mod_info, which tells the values")
    defines = {"PERSIST_SERVER_NAME": "shop.example.org", **own}
    lines = [f'LoadModule info_module "{server.modules}/mod_info.so"']
    lines += [f"Define {name} {value}" for name, value in defines.items()]
    (root / "own.conf").write_text("\n".join([*lines, f'Include "{VHOSTS}/tls.conf"', ""]))
    assert f'Redirect permanent / "{origin}"\n' in syntax.told(root / "own.conf", server, root, "DUMP_CONFIG")
