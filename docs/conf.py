"""Configuration of Sphinx."""

from __future__ import annotations

from drakcelery import __version__

project = "drakcelery"
author = "the drakcelery authors"
project_copyright = author
release = version = __version__

extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"drakcelery {release}"
html_copy_source = False
html_show_sphinx = False
