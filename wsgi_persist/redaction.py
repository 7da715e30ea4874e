"""Passwords stay out of what this package says: in its log, its checks, its errors and its command line.

libpq quotes a connection string that was put where a host's name belongs, and parts of one that it cannot
read. So the texts of drivers are never passed on as they are.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

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

# Without one of these nothing is looked for: what a request sent may be long, and full of quotes.
_SIGNS = re.compile(
    r"://|host|passw|passphrase|pwd|secret|scram_|spaces found in|encoded (?:token|value)|query parameter"
    r"""|"=" after|integer value|with base 10|netloc|does not appear to be an IP""",
    re.IGNORECASE,
)
# Characters of a line; what is beyond them is cut off where there is a sign.
_LONGEST = 1000

LOGGERS = (
    *("answer", "backends", "boundary", "drivers", "greeting", "guard", "hosts", "lease", "lifecycle"),
    *("liveness", "middleware", "outage", "outcome", "pin", "registry", "replay", "scope", "session"),
    "status",
)


def redacted(text: str) -> str:
    """*text* without the passwords that it shows."""
    if not _SIGNS.search(text):
        return text
    short = found = "\n".join(map(_cut, text.split("\n")))
    for secret in _SECRETS:
        found = secret.sub(rf"\g<kept>{HIDDEN}", found)
    return found if found == short else _HOSTS.sub(rf"\g<kept>{HIDDEN}", found)


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def redact(record: logging.LogRecord) -> bool:
    """A filter that lets every record pass, without the passwords in it."""
    try:
        text = record.getMessage()
        if (safe := redacted(text)) != text:
            record.msg, record.args = safe, None
        if record.exc_info:
            _redact_trace(record, record.exc_info[1])
    except Exception as error:
        # A filter's exceptions reach whoever logs. What could not be read is not shown, either.
        record.msg, record.args = f"a message could not be read: {type(error).__name__}", None
        record.exc_info = record.exc_text = None
    return True


def _redact_trace(record: logging.LogRecord, error: BaseException | None) -> None:
    """Line by line, as lines of source code may look like secrets, too."""
    assert record.exc_info
    trace = logging.Formatter().formatException(record.exc_info)
    safe = "\n".join(map(redacted, trace.split("\n")))
    if safe != trace:
        record.exc_text = safe  # what handlers print
        if any(redacted(text) != text for text in _texts(error, set())):
            record.exc_info = None  # others would send the exception itself


def _texts(error: BaseException | None, seen: set[int]) -> Iterator[str]:
    """Of an exception and all that it came from."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield from (str(error), *getattr(error, "__notes__", ()))
    for other in (error.__cause__, error.__context__, *getattr(error, "exceptions", ())):
        yield from _texts(other, seen)


def redact_log() -> None:
    """Filters of a logger see its own records alone, not those of its children."""
    for name in LOGGERS:
        logging.getLogger(f"wsgi_persist.{name}").addFilter(redact)
