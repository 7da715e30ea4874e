"""Passwords stay out of what this package says: in its log, its checks, its errors and its command line.

libpq quotes a connection string that was put where a host's name belongs, and parts of one that it cannot
read. So the texts of drivers are never passed on as they are.
"""

from __future__ import annotations

import logging
import re

HIDDEN = "***"

_NAME = r"""(?:passw|passphrase|pwd|secret|scram_\w+_key)\w*\\?["']?"""
_QUOTED = r"""(?:e|u&)?\\?["'$].*"""

# What comes before a secret, and the secret. Up to the end of the line, if in doubt: a password may
# hold every character, and what quotes it may have been cut off.
_SECRETS = tuple(
    re.compile(rf"(?P<kept>{before})(?:{secret})", re.IGNORECASE)
    for before, secret in (
        # user:password@ of a URI; without its @, where libpq cut it at a comma.
        (r"""://[^\s:@/"']*:""", r"""\S.*(?=@)|[^\s"']+"""),
        # What is no host's name.
        (r"""host(?: name)?:? ["']""", r".*(?=@)"),
        (r"""host(?: name)?:? (?P<q>["'])""", r"(?:(?!(?P=q)).)*[\s=](?:(?!(?P=q)).)*"),
        (rf"{_NAME}\s*(?:[:=]+>?|\bto\b)\s*", rf"{_QUOTED}|(?:\\+.|[^\s&])+"),
        (rf"{_NAME}[\s,]+", _QUOTED),
        # Parts of a connection string that libpq, or Python's urllib, cannot read.
        (r"""(?:spaces found in|encoded (?:token|value)|"=" after|query parameter):? """, r"""["'].*["']"""),
        (r"integer value ", r"""["'].*?["'](?= for connection option)"""),
        (r"(?:integer value as|with base 10:|netloc) ", r"""["'].*["']"""),
        ("", r"""["'].*["'](?= does not appear to be an IP)"""),
    )
)
# A comma in a password makes names of hosts of its parts.
_HOSTS = re.compile(r"""(?P<kept>host(?: name)?:? )(?P<q>["']).*?(?P=q)""", re.IGNORECASE)

LOGGERS = (
    *("answer", "backends", "boundary", "drivers", "lease", "lifecycle", "liveness", "middleware"),
    *("outage", "pin", "registry", "replay", "scope", "session"),
)


def redacted(text: str) -> str:
    """*text* without the passwords that it shows."""
    found = text
    for secret in _SECRETS:
        found = secret.sub(rf"\g<kept>{HIDDEN}", found)
    return found if found == text else _HOSTS.sub(rf"\g<kept>{HIDDEN}", found)


def redact(record: logging.LogRecord) -> bool:
    """A filter that lets every record pass, without the passwords in it."""
    text = record.getMessage()
    if (safe := redacted(text)) != text:
        record.msg, record.args = safe, None
    if record.exc_info:
        trace = logging.Formatter().formatException(record.exc_info)
        if (safe := redacted(trace)) != trace:
            # Handlers would print, or send, the exception itself.
            record.exc_info, record.exc_text = None, safe
    return True


def redact_log() -> None:
    """Filters of a logger see its own records alone, not those of its children."""
    for name in LOGGERS:
        logging.getLogger(f"wsgi_persist.{name}").addFilter(redact)
