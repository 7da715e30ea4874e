"""Run by the site's own interpreter, in the project's folder: what the site is, as JSON.

Its source is passed to ``python -c``, so that it runs where another wsgi_persist is installed, or
none. What the site prints while it is imported goes to standard error.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import sysconfig
import traceback
from contextlib import closing
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any


def script_of(settings: str) -> str:
    """The file of WSGI_APPLICATION; the settings are not configured yet, only read."""
    named = getattr(importlib.import_module(settings), "WSGI_APPLICATION", None)
    if not named:
        raise LookupError(f"{settings} has no WSGI_APPLICATION: give --wsgi instead")
    spec = find_spec(named.rpartition(".")[0])
    if spec is None or spec.origin is None:
        raise LookupError(f"WSGI_APPLICATION={named!r} of {settings} is not found")
    return spec.origin


def load(script: str) -> ModuleType:
    """As mod_wsgi does: by its path, whatever it is called, under a name of its own."""
    loader = SourceFileLoader("_wsgi_script", script)
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = sys.modules[loader.name] = module_from_spec(spec)
    loader.exec_module(module)
    return module


def made_of(class_name: str) -> list[Any]:
    """Instances of a class of wsgi_persist: another middleware may stand around ours."""
    kind = getattr(sys.modules.get("wsgi_persist"), class_name, None)
    return [found for found in gc.get_objects() if type(found) is kind] if kind else []


def aliases() -> dict[str, dict[str, Any]]:
    """The aliases that are kept by wsgi_persist."""
    if "django.db" not in sys.modules or not os.environ.get("DJANGO_SETTINGS_MODULE"):
        return {}
    from django.db import connections

    wrappers = {alias: connections[alias] for alias in connections}
    return {alias: _about(w) for alias, w in wrappers.items() if hasattr(w, "persist_policy")}


def _about(wrapper: Any) -> dict[str, Any]:
    settings = wrapper.settings_dict
    passfile = settings["OPTIONS"].get("passfile")
    return {
        "host": str(settings["HOST"] or ""),
        "port": str(settings["PORT"] or "5432"),
        # Relative to the workers' home, which is the project.
        "passfile": os.path.abspath(passfile) if passfile else "",
        "pooler": wrapper.persist_policy.pooler,
    }


LIMITS = """
SELECT extract(epoch FROM pg_postmaster_start_time())::text || current_setting('port'),
       current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true), '0')::int,
       'role ' || rolname, CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END,
       'database ' || datname, CASE WHEN rolsuper THEN -1 ELSE datconnlimit END
FROM pg_roles, pg_database WHERE rolname = session_user AND datname = current_database()
"""


def limits(names: list[str]) -> list[dict[str, Any]]:
    """How many connections there may be to each server that these aliases lead to, however they name
    it, by each role and to each database."""
    from django.db import connections

    found: dict[tuple[str, str], dict[str, Any]] = {}
    for alias in names:
        try:
            with connections[alias].cursor() as cursor:
                cursor.execute(LIMITS)
                server, of_server, reserved, role, of_role, database, of_database = cursor.fetchone()
        except Exception as error:
            raise ConnectionError(f"alias {alias!r} cannot be asked for max_connections: {error}") from None
        finally:
            connections[alias].close()  # there may be room for no other
        given = {"max_connections": of_server, role: of_role, database: of_database}
        for what, most in given.items():
            if most >= 0:
                own = reserved if what == "max_connections" else 0
                limit = {"aliases": [], "what": what, "most": most, "reserved": own}
                found.setdefault((server, what), limit)["aliases"].append(alias)
    return list(found.values())


def poolers(kept: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How many clients each PgBouncer lets in, and why one did not tell, as to who is not in stats_users."""
    from django.db import connections

    found, untold = dict[str, dict[str, Any]](), ""
    for alias, facts in filter(lambda each: each[1]["pooler"], kept.items()):
        try:
            limit = {"aliases": [], "what": "max_client_conn", "most": _clients(connections[alias])}
            found.setdefault(f"{facts['host']} {facts['port']}", limit)["aliases"].append(alias)
        except Exception as error:
            untold = f"alias {alias!r}: {' '.join(str(error).split())}"
    return {"limits": list(found.values()), "untold": untold}


def _clients(wrapper: Any) -> int:
    params = {**wrapper.get_connection_params(), "dbname": "pgbouncer"}
    with closing(wrapper.Database.connect(**params)) as console, console.cursor() as cursor:
        console.autocommit = True
        cursor.execute("SHOW CONFIG")
        return int({row[0]: row[1] for row in cursor.fetchall()}["max_client_conn"])


SESSIONS = """
SELECT pid, application_name, coalesce(state, ''), current_setting('max_connections')::int,
       coalesce(extract(epoch FROM clock_timestamp() - state_change), 0)::float8,
       coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::float8
FROM pg_stat_activity WHERE backend_type = 'client backend' ORDER BY pid
"""


def sessions(kept: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What each server says of its sessions, by the first alias that leads to it."""
    servers = {(facts["host"], facts["port"]): alias for alias, facts in reversed(kept.items())}
    return [_sessions(alias) for alias in sorted(servers.values())]


def _sessions(alias: str) -> dict[str, Any]:
    from django.db import connections

    try:
        with connections[alias].cursor() as cursor:
            cursor.execute(SESSIONS)
            rows = cursor.fetchall()
    except Exception as error:
        return {"alias": alias, "error": " ".join(str(error).split())}
    finally:
        connections[alias].close()
    names = ("backend", "application_name", "state", "max_connections", "seconds", "transaction_seconds")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return {
        "alias": alias,
        "error": "",
        "max_connections": found[0]["max_connections"],
        "sessions": found,
        "idle_in_transaction": sum(each["state"].startswith("idle in transaction") for each in found),
        "oldest_transaction": max(each["transaction_seconds"] for each in found),
    }


def imported() -> list[str]:
    """The files of the modules that the site has imported by now."""
    found = {str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
    return sorted(file for file in found if os.path.isabs(file) and os.path.isfile(file))


def mod_wsgi() -> dict[str, Any] | None:
    """The Apache that the mod_wsgi of this interpreter was built for, if there is one, and the folder of
    the libraries that it brought with it, by the variable that leads to them."""
    spec = find_spec("mod_wsgi")
    if spec is None or spec.origin is None:
        return None
    modules = sorted(Path(spec.origin).parent.glob("server/mod_wsgi-*.so"))
    for name in ("mod_wsgi.express.apxs_config", "mod_wsgi.server.apxs_config"):
        try:
            built = importlib.import_module(name)
        except ImportError:
            continue
        if modules:
            libraries = {built.SHLIBPATH_VAR: built.SHLIBPATH} if getattr(built, "SHLIBPATH", "") else {}
            built_for = {"program": built.HTTPD, "modules": built.LIBEXECDIR, "libraries": libraries}
            return {"module": str(modules[0]), **built_for}
    return None


def about(script: str | None, settings: str | None, asked: str) -> dict[str, Any]:
    script = script or script_of(settings or "")
    module = load(script)
    kept = aliases()
    direct = [alias for alias, facts in kept.items() if not facts["pooler"]]
    return {
        "script": script,
        "application": callable(getattr(module, "application", None)),
        "wrapped": bool(made_of("PersistMiddleware")),
        "pins": len(made_of("Pin")),
        "settings": os.environ.get("DJANGO_SETTINGS_MODULE"),
        "aliases": kept,
        "django": list(sys.modules["django"].VERSION) if kept else None,
        "limits": limits(direct) if asked == "limits" and direct else [],
        "poolers": poolers(kept) if asked == "limits" else {},
        "sessions": sessions(kept) if asked == "sessions" else [],
        "files": [sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")],
        "imported": imported(),
        "mod_wsgi": mod_wsgi(),
    }


def told(error: BaseException, project: str) -> str:
    """One line: what went wrong, and where in the site."""
    inside = [at for at in traceback.extract_tb(error.__traceback__) if at.filename.startswith(f"{project}/")]
    where = f" ({inside[-1].filename}, line {inside[-1].lineno})" if inside else ""
    return f"{type(error).__name__}: {error}{where}"


def failure(error: BaseException, project: str) -> dict[str, Any]:
    """What is needed to tell whether a permission is missing: an import may have hidden that."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    denied = [found.filename for found in chain if isinstance(found, PermissionError)]
    missing = [found.name for found in chain if isinstance(found, ImportError)]
    return {
        "error": told(error, project),
        "denied": next((os.path.abspath(name) for name in denied if isinstance(name, str)), None),
        "missing": next(filter(None, missing), None),
        "path": sys.path,
    }


def main(project: str, request: str) -> None:
    sys.path[0] = project  # as mod_wsgi's python-path: a link stays one
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        facts = about(**json.loads(request))
    except (Exception, SystemExit) as error:
        facts = failure(error, project)
    os.write(answer, json.dumps(facts).encode())
    # Threads that the site started must not keep this process.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
