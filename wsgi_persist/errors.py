"""What can go wrong, from the caller's point of view."""


class PersistError(Exception):
    """Base of every error that this package raises on its own account."""


class ScopeError(PersistError, RuntimeError):
    """The server runs requests in threads, but one connection per process was asked for."""


class NotInRequestError(PersistError, RuntimeError):
    """A pin was used by a thread that is not serving a request."""


class TransactionError(PersistError, RuntimeError):
    """A transaction was begun inside another one, or could not be committed because it had failed."""


class LeakedStateError(PersistError):
    """A request left session state behind, and ``reset_report="raise"`` wants to know."""
