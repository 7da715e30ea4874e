# Everything runs in one virtual environment, which the first start builds (below .build/).
# PYTHON=... chooses the Python for it, APACHE=standalone an Apache of its own.

ENVIRONMENT = $(or $(PYTHON),python3) -m tools.environment

.DEFAULT_GOAL := help
.PHONY: help demo test django-suite matrix lint bench profile ends faults docs clean

help:  ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo:  ## serve the demonstration site and measure it against stock Django (ONCE=1, PORT=8000)
	@python=$$($(ENVIRONMENT) demo apache) && exec "$$python" -m tools.demo

test:  ## unit, integration and Apache tests on both drivers, with coverage
	@python=$$($(ENVIRONMENT) test uwsgi apache) && export PYTHONPATH=. && \
	echo "--> everything on psycopg 3" && \
	SITE_DRIVER=psycopg "$$python" -W error -m pytest --cov --cov-report= && \
	echo "--> what a driver has a part in on psycopg2, with the machine's PostgreSQL if it has one" && \
	SITE_DRIVER=psycopg2 PG=machine "$$python" -W error -m pytest --cov --cov-append \
	    tests/integration tests/apache/test_workers.py tests/apache/test_ends.py tests/apache/test_killed.py \
	    tests/faults/test_scenarios.py

django-suite:  ## Django's own test suite on our backend beside the stock one, on both drivers (ALL=1: whole, an hour)
	@python=$$($(ENVIRONMENT) test) && export PYTHONPATH=. && all="$(if $(ALL),--all --timeout 7200)" && \
	"$$python" -m tests.django_suite --driver psycopg2 $$all && \
	"$$python" -m tests.django_suite --driver psycopg $$all

matrix:  ## every supported version, with tox: hours (PART=ci: three environments; MATRIX=--help)
	@python=$$($(ENVIRONMENT) matrix) && exec "$$python" -m tools.matrix $(if $(PART),--part $(PART)) $(MATRIX)

lint: docs  ## style, types, direction of imports, Apache syntax, the manual without a warning
	@python=$$($(ENVIRONMENT) test lint apache) && \
	"$$python" -m ruff check . && \
	"$$python" -m mypy && \
	PYTHONPATH=. "$$python" -m pytest -q tests/unit/test_layering.py && \
	"$$python" -m tools.syntax

docs:  ## the manual as HTML
	@python=$$($(ENVIRONMENT) docs) && built=$$($(ENVIRONMENT) --where)/docs && \
	"$$python" -m sphinx -q -W --keep-going -b html docs "$$built" && echo "--> $$built/index.html"

bench:  ## compare with what one would pick instead, 40 minutes (QUICK=1: 3; BENCH=--help)
	@python=$$($(ENVIRONMENT) test bench apache) && export PYTHONPATH=. PG=$${PG:-machine} && \
	exec "$$python" -m tests.bench $(BENCH)

profile:  ## account for every microsecond of a request (BENCH=--help)
	@python=$$($(ENVIRONMENT) test apache) && export PYTHONPATH=. PG=$${PG:-machine} && \
	exec "$$python" -m tests.bench.profile $(BENCH)

ends:  ## every end of a worker under load, with figures: a quarter of an hour
	@python=$$($(ENVIRONMENT) test apache) && LOAD=full PYTHONPATH=. exec "$$python" -W error -m pytest -q -s tests/apache/test_ends_under_load.py

faults:  ## harm the database of a site under load, stock Django beside ours: an hour (FAULTS=--help)
	@python=$$($(ENVIRONMENT) test apache) && PYTHONPATH=. exec "$$python" -m tests.faults.report $(FAULTS)

clean:  ## remove what was built
	@built=$$($(ENVIRONMENT) --where) && rm -rf "$$built" build dist *.egg-info .coverage*
