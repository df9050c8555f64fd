"""How the documentation is built: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import dispatcharr

project = "dispatcharr"
author = "The dispatcharr developers"
project_copyright = f"2026, {author}"
release = dispatcharr.__version__
version = release

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "tables",
]
exclude_patterns = ["_build"]
nitpicky = False  # docstrings speak of NumPy's names, and no inventory is fetched at build time

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say it
autosummary_generate = False
numpydoc_show_class_members = False

html_theme = "furo"
html_title = f"dispatcharr {release}"
html_show_sourcelink = False
