"""System checks of what stands around the settings: ``manage.py check --deploy``."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.utils.module_loading import import_string

from wsgi_persist.backends.checks.aliases import driver_module, ours
from wsgi_persist.backends.checks.redaction import without_passwords

# Where Debian enables Apache's TLS.
MOD_SSL = Path("/etc/apache2/mods-enabled/ssl.load")


@without_passwords
def check_middleware(app_configs: Sequence[Any] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Imports the WSGI application, as runserver does."""
    named, aliases = getattr(settings, "WSGI_APPLICATION", None), ours()
    if not named or any(alias.policy is None for alias in aliases):
        return []  # the middleware refuses wrong options, which are messages of their own
    try:
        import_string(named)
    # A script that ends the process would end the check, too, with status 0.
    except (Exception, SystemExit) as error:
        return [_not_wrapped(f"WSGI_APPLICATION = {named!r} cannot be imported: {error}")]
    wrapped = bool(_made_of("PersistMiddleware"))
    if aliases and not wrapped:
        names = ", ".join(alias.path for alias in aliases)
        return [_not_wrapped(f"{names}: nothing is kept, as {named!r} is not wrapped in PersistMiddleware.")]
    if wrapped and not aliases and not _made_of("Pin"):
        return [_nothing_kept(named)]
    return []


def _not_wrapped(text: str) -> checks.CheckMessage:
    hint = "import wsgi_persist; application = wsgi_persist.PersistMiddleware(get_wsgi_application())"
    return checks.Warning(text, hint=hint, id="wsgi_persist.W001")


def _nothing_kept(named: str) -> checks.CheckMessage:
    return checks.Warning(
        f"{named!r} is wrapped in PersistMiddleware, but no alias has an ENGINE of wsgi_persist.",
        hint="DATABASES['default']['ENGINE'] = 'wsgi_persist.backends.postgresql'",
        id="wsgi_persist.W002",
    )


def _made_of(name: str) -> list[Any]:
    """Instances of a public class in this process: another middleware may stand around ours."""
    kind = getattr(sys.modules["wsgi_persist"], name)
    return [found for found in gc.get_objects() if type(found) is kind]


@without_passwords
def check_libraries(app_configs: Sequence[Any] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    if not ours() or not os.path.exists(MOD_SSL):
        return []
    driver = driver_module()
    wheel, source = {"psycopg": ("psycopg_binary", "psycopg[c]")}.get(driver, ("psycopg2_binary", "psycopg2"))
    bundled = _bundled_openssl(driver, wheel)
    if bundled is None:
        return []
    return [
        checks.Warning(
            f"The driver brings an OpenSSL of its own ({bundled}) into a process with Apache's mod_ssl.",
            hint=f"pip uninstall -y {wheel.replace('_', '-')} && pip install '{source}'",
            id="wsgi_persist.W010",
        )
    ]


def _bundled_openssl(driver: str, wheel: str) -> Path | None:
    """Wheels for Linux keep their copies beside the package."""
    spec = find_spec(driver)
    if spec is None or spec.origin is None:
        return None
    return next((Path(spec.origin).parent.parent / f"{wheel}.libs").glob("libssl*"), None)
