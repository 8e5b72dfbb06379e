"""Sphinx: `make docs` builds with warnings as errors."""

import shlex
import sys
from pathlib import Path

project = "dopd"
copyright = "The dopd authors"
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]  # GitHub draws the same blocks
# Drawn while the pages are built: a page needs nothing of the internet, and a diagram with a mistake fails the build.
mermaid_cmd = shlex.quote(str(Path(sys.executable).with_name("mermaidx")))
mermaid_output_format = "svg"
html_theme = "furo"
html_title = "dopd"
exclude_patterns = ["_build", "tests"]
html_static_path = ["_static"]
html_css_files = ["dopd.css"]
