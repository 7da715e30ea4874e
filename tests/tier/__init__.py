"""A site past one machine: three hosts with Patroni, PgBouncer and HAProxy before them, and what happens to
them under load. The files are those of ``deploy/patroni`` and ``deploy/pgbouncer``."""
