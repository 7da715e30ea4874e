"""The manual: python -m sphinx -W -b html docs .build/docs"""

import sys
from pathlib import Path

# The clone's own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from wsgi_persist import __version__

project = "wsgi_persist"
author = copyright = "the authors of wsgi_persist"
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.graphviz"]
# Installed with sphinx: few machines have a dot of their own.
graphviz_dot = str(Path(sys.executable).parent / "graphviz-pure")
graphviz_output_format = "svg"
# The figures are included by the pages that tell of them.
exclude_patterns = ["_build", "figures"]
nitpicky = True
nitpick_ignore_regex = [
    # Of Python, of its type checkers and of WSGI: the manual is built without a network to link them.
    ("py:class", r"(_typeshed|collections|typing)\..*|WSGI\w+|StartResponse|[A-Z]\w+Error"),
    ("py:exc", "TypeError|ValueError"),
]

autodoc_member_order = "bysource"
autodoc_typehints = "none"

html_theme = "alabaster"
html_theme_options = {"description": "One database connection for each WSGI worker", "show_powered_by": False}
html_copy_source = False
