"""Apache from the package index, for where no other can be had: compiled once, with what is used of it."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from tools import machine

NAME = "mod_wsgi-standalone"
SECONDS = 100  # about, on two cores
NEEDS = machine.Needs(("cc", "make"), ("stdio.h", "expat.h"))
TLS_NEEDS = "openssl/ssl.h"
WITH_TLS, WITHOUT_TLS = "with TLS", "without TLS, as libssl-dev is missing"
# Beyond those that httpd itself calls few.
MODULES = ("macro", "expires", "deflate", "info")
TLS_MODULES = ("ssl", "socache_shmcb")
# Each configure that pip starts reads this file. The libraries are only loaded, never linked in.
SITE = """\
case $PWD in
*/httpd-*)
    enable_mods_shared=few
{modules}
    ;;
*)
    enable_static=no
    ;;
esac
"""


@functools.cache
def has_tls() -> bool:
    """Whether a compiled Apache gets mod_ssl."""
    return machine.has_header(TLS_NEEDS)


def about() -> str:
    """What it will be, so that it is made anew once it can be more."""
    return WITH_TLS if has_tls() else WITHOUT_TLS


def environ(home: Path, python: machine.Interpreter) -> dict[str, str]:
    """For pip: a cache of its own, from which what was compiled for this Python is installed next time."""
    mark = hashlib.sha256(f"{python.identity} {has_tls()}".encode()).hexdigest()[:10]
    modules = (*MODULES, *(TLS_MODULES if has_tls() else ()))
    site = home / "config.site"
    site.write_text(SITE.format(modules="\n".join(f"    enable_{name}=shared" for name in modules)))
    given = {name: value for name, value in os.environ.items() if name != "PIP_NO_CACHE_DIR"}
    return {**given, "PIP_CACHE_DIR": str(home / f"cache-{mark}"), "CONFIG_SITE": str(site)}
