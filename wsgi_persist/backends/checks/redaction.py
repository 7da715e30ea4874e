"""Messages of system checks show no password."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.core import checks

from wsgi_persist.redaction import redacted

Check = Callable[..., list[checks.CheckMessage]]


def without_passwords(check: Check) -> Check:
    """A check whose messages may repeat what drivers, settings and other people's errors say."""

    @functools.wraps(check)
    def redacting(*args: Any, **kwargs: Any) -> list[checks.CheckMessage]:
        found = check(*args, **kwargs)
        for message in found:
            message.msg = redacted(message.msg)
            message.hint = redacted(message.hint) if message.hint else message.hint
        return found

    return redacting
