"""How these pages are built: ``make docs``."""

import os
import sys
from pathlib import Path

import slipstream

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ.setdefault("MPLBACKEND", "Agg")

project = "slipstream"
author = "the slipstream authors"
project_copyright = author
version = release = slipstream.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "benchmark_pages",
    "house_docstrings",
    "method_pages",
    "problem_pages",
    "room_pages",
]
exclude_patterns = ["_build", "_ext", "**/README.*", "gallery/*.py", "gallery/*.ipynb"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

# Names in single backticks are code, as the docstrings mean them.
default_role = "literal"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes stand in the docstrings; the annotations would bury them
autodoc_inherit_docstrings = False
autosummary_generate = False
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples" / "gallery"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "plot_gallery": True,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "min_reported_time": 1e9,
}

html_theme = "pydata_sphinx_theme"
html_title = "slipstream"
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_nav_level": 1,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
