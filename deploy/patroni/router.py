"""Reads go to a standby, for sites whose reads can be a moment old: a router of Django's, and a middleware.

DATABASE_ROUTERS = ["mysite.router.ReadsFromStandby"]
MIDDLEWARE = ["mysite.router.reads_its_own_writes", ...]
DATABASES["replica"] = {**DATABASES["default"], "OPTIONS": {"target_session_attrs": "prefer-standby"}}
"""

from asgiref.local import Local

SAFE = ("GET", "HEAD", "OPTIONS")
LAG = 5  # seconds in which a visitor who has written reads from the leader
COOKIE = "wrote"

_request = Local()


def reads_its_own_writes(get_response):
    def middleware(request):
        _request.wrote = request.method not in SAFE
        _request.from_leader = _request.wrote or COOKIE in request.COOKIES
        try:
            response = get_response(request)
            if _request.wrote:
                response.set_cookie(COOKIE, "1", max_age=LAG, httponly=True, samesite="Lax")
            return response
        finally:
            _request.from_leader = True

    return middleware


class ReadsFromStandby:
    """Outside a request, in commands and tasks, everything goes to the leader."""

    def db_for_read(self, model, **hints):
        return "default" if getattr(_request, "from_leader", True) else "replica"

    def db_for_write(self, model, **hints):
        _request.wrote = _request.from_leader = True
        return "default"

    def allow_relation(self, one, other, **hints):
        return True

    def allow_migrate(self, db, app_label, **hints):
        return db == "default"
