"""waitress, in the project's folder: python waitress_serve.py --threads=4 mysite.wsgi:application

It takes the options of waitress-serve. Each thread keeps one connection per database.
"""

import signal
import sys

from waitress.runner import run

# waitress ends in good order on SIGINT alone. systemd and others send SIGTERM, which would kill it:
# requests would be cut, and PostgreSQL would see lost sessions instead of closed ones.
signal.signal(signal.SIGTERM, signal.default_int_handler)

sys.exit(run())
