"""What a statement's text does: what it leaves in the session, and whether it may be sent again."""

from wsgi_persist.sql.classifier import Classifier, Functions
from wsgi_persist.sql.effects import ONCE, QUIET, UNDONE, UNMARK, Kind, Leaves, Verdict, writes
from wsgi_persist.sql.functions import BUILT_INS, KEYWORDS
from wsgi_persist.sql.normal import normalized
from wsgi_persist.sql.recent import Recent
from wsgi_persist.sql.values import without_values

__all__ = [
    "BUILT_INS",
    "KEYWORDS",
    "ONCE",
    "QUIET",
    "UNDONE",
    "UNMARK",
    "Classifier",
    "Functions",
    "Kind",
    "Leaves",
    "Recent",
    "Verdict",
    "normalized",
    "without_values",
    "writes",
]
