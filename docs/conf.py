"""Sphinx: `make docs` builds with warnings as errors."""

project = "dopd"
copyright = "The dopd authors"
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]  # GitHub draws the same blocks
html_theme = "furo"
html_title = "dopd"
exclude_patterns = ["_build", "tests"]
