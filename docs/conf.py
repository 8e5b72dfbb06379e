"""Sphinx: `make docs` builds with warnings as errors."""

project = "dopd"
copyright = "The dopd authors"
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "dopd"
exclude_patterns = ["_build"]
