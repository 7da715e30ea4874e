# Everything runs in one virtual environment, which the first start builds (below .build/).
# PYTHON=... chooses the Python for it, APACHE=standalone an Apache of its own; APT=0 keeps root from apt-get,
# APT=all lets it bring Chromium and Prometheus for the tests, too.

ENVIRONMENT = $(or $(PYTHON),python3) -B -m tools.environment

.DEFAULT_GOAL := help
.PHONY: help demo test django-suite matrix lint bench profile ends faults tier docs picture fresh clean

help:  ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo:  ## serve the demonstration site and measure it against stock Django (ONCE=1, PORT=8000)
	@$(ENVIRONMENT) demo apache -- -m tools.demo

test:  ## unit, integration and Apache tests on both drivers, with coverage
	@$(ENVIRONMENT) test uwsgi apache -- -m tools.suite

fresh:  ## as root: a demo or test in a new Debian that has only what README asks for (SUITE, WHO, WHAT)
	@$(or $(PYTHON),python3) -B -m tools.fresh

django-suite:  ## Django's own test suite on our backend beside the stock one, on both drivers (ALL=1: whole, an hour)
	@python=$$($(ENVIRONMENT) test) && export PYTHONPATH=. && all="$(if $(ALL),--all --timeout 7200)" && \
	"$$python" -m tests.django_suite --driver psycopg2 $$all && \
	"$$python" -m tests.django_suite --driver psycopg $$all && \
	"$$python" -m tests.django_suite --driver psycopg2 --requests $$all && \
	"$$python" -m tests.django_suite --driver psycopg --requests $$all && \
	"$$python" -m tests.django_suite --driver psycopg2 --cuts && \
	"$$python" -m tests.django_suite --driver psycopg --cuts

matrix:  ## every supported version, with tox: hours (PART=ci: three environments; MATRIX=--help)
	@$(ENVIRONMENT) matrix -- -m tools.matrix $(if $(PART),--part $(PART)) $(MATRIX)

lint: docs  ## style, types, direction of imports, Apache syntax, the manual without a warning
	@python=$$($(ENVIRONMENT) test lint apache) && export PYTHONPATH=. && \
	"$$python" -m ruff check . && \
	"$$python" -m mypy && \
	"$$python" -m pytest -q tests/unit/test_layering.py && \
	"$$python" -m tools.syntax

docs:  ## the manual as HTML
	@python=$$($(ENVIRONMENT) docs) && built=$$($(ENVIRONMENT) --where)/docs && \
	"$$python" -m sphinx -q -W --keep-going -b html docs "$$built" && echo "--> $$built/index.html"

picture:  ## the page of the demonstration's workers as README shows it, in Chromium (docs/figures/status.png)
	@$(ENVIRONMENT) demo apache -- -m tools.picture

bench:  ## compare with what one would pick instead, 40 minutes (QUICK=1: 3; BENCH=--help)
	@PG=$${PG:-machine} $(ENVIRONMENT) test bench apache -- -m tests.bench $(BENCH)

profile:  ## account for every microsecond of a request (BENCH=--help)
	@PG=$${PG:-machine} $(ENVIRONMENT) test apache -- -m tests.bench.profile $(BENCH)

ends:  ## every end of a worker under load, with figures: a quarter of an hour
	@LOAD=full $(ENVIRONMENT) test apache -- -W error -m pytest -q -s tests/apache/test_ends_under_load.py

faults:  ## harm the database of a site under load, stock Django beside ours: an hour (FAULTS=--help)
	@$(ENVIRONMENT) test apache -- -m tests.faults.report $(FAULTS)

tier:  ## as root: three hosts with Patroni, PgBouncer, HAProxy, and what happens to them (TIER=--help)
	@PG=$${PG:-machine} $(ENVIRONMENT) test apache patroni -- -m tests.tier.report $(TIER)

clean:  ## remove what was built
	@built=$$($(ENVIRONMENT) --where) && rm -rf "$$built" build dist *.egg-info .coverage*
