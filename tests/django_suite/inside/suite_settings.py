"""Settings of Django's suite, loaded inside its process; ``$DJANGO_SUITE`` says what is wanted."""

import json
import os
import sys
from typing import Any

# What Django's suite needs besides databases, as it ships it; it stands in the current folder.
from test_sqlite import *  # noqa: F403

GIVEN: dict[str, Any] = json.loads(os.environ["DJANGO_SUITE"])

if GIVEN["driver"] == "psycopg2":
    # Django prefers psycopg where both are installed; None makes its import fail.
    sys.modules["psycopg"] = None  # type: ignore[assignment]

_SERVER = {key: GIVEN[key] for key in ("ENGINE", "USER", "HOST", "PORT")}
DATABASES = {
    "default": {**_SERVER, "NAME": GIVEN["NAME"]},
    "other": {**_SERVER, "NAME": f"{GIVEN['NAME']}_other"},
}
if GIVEN["transactions"]:
    for _database in DATABASES.values():
        _database["OPTIONS"] = {"persist": {"transactions": GIVEN["transactions"]}}
TEST_RUNNER = "suite_runner.Runner"
