"""The page of this host's workers, see PERSIST_STATUS_PAGE in wsgi_persist.conf."""

from wsgi_persist.status import StatusPage

# Of all sites below /run/wsgi_persist, or of the folder that is given here. To show what PostgreSQL says
# beside it, give a function that connects as a member of pg_monitor:
#
#     StatusPage(connect=lambda: psycopg2.connect("dbname=shop user=monitor"))
application = StatusPage()
# From now on, so that the first visitor sees the last minutes.
application.start()
