"""gunicorn, in the project's folder: gunicorn -c gunicorn.conf.py mysite.wsgi"""

bind = "127.0.0.1:8000"

# Each worker keeps one connection per database: PostgreSQL's max_connections must allow for them all.
workers = 4

# One request at a time in a worker. With more, each thread of each worker keeps a connection.
threads = 1

# Each worker loads the application itself. True works, too, but then not prewarm=True: gunicorn's
# master would open a connection that no worker can use.
preload_app = False

# Workers are replaced now and then, not all at once; each closes its connection when it goes.
max_requests = 10_000
max_requests_jitter = 1_000

# A stop or reload waits so many seconds for requests in flight. Later they are killed, and PostgreSQL
# sees a lost session instead of a closed one.
graceful_timeout = 30
