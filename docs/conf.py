"""The documentation site: ``.ci/docs.sh`` builds it, from here and from ``examples/``.

Formulas become pictures within the page (`_ext/formulas.py`): nothing is fetched when a page is read.
"""

import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

os.environ["FASTBP_NUM_THREADS"] = os.environ.get("FASTBP_NUM_THREADS", "2")

import fastbp

project = "fastbp"
author = "fastbp developers"
copyright = "fastbp developers, BSD 3-Clause"
version = release = fastbp.__version__
language = "en"

# The one place that knows where things are on the web; empty: no link to them.
SITE = os.environ.get("FASTBP_SITE", "")
REPOSITORY = os.environ.get("FASTBP_REPOSITORY", "")
html_baseurl = SITE

extensions = [
    "formulas",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/**/*.ipynb"]
templates_path = ["_templates"]
suppress_warnings = ["config.cache"]
nitpicky = False
default_role = "py:obj"

myst_enable_extensions = ["dollarmath", "amsmath", "attrs_block", "deflist"]
myst_heading_anchors = 3
highlight_language = "python"

# Reference
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say them
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False

# Gallery
warnings.filterwarnings("ignore", category=UserWarning, message=".*non-interactive.*")
warnings.filterwarnings("ignore", message=".*Maximum iterations.*")  # as many epochs as are meant
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "abort_on_example_error": True,
    "show_signature": False,
    "capture_repr": (),
    "min_reported_time": 0,
    "write_computation_times": False,
    "image_scrapers": ("matplotlib",),
    "image_srcset": ["2x"],
    "matplotlib_animations": False,
    "plot_gallery": os.environ.get("FASTBP_GALLERY", "True"),
    "backreferences_dir": "gallery/backreferences",
    "doc_module": ("fastbp",),
    "inspect_global_variables": False,
    "default_thumb_file": str(HERE / "pictures" / "network.svg"),
    "remove_config_comments": True,
    "notebook_images": False,
}

# Pages
html_theme = "pydata_sphinx_theme"
html_title = "fastbp"
html_static_path = ["_static"]
html_css_files = ["fastbp.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-light",
    "pygments_dark_style": "a11y-dark",
    **({"github_url": REPOSITORY} if REPOSITORY else {}),
}
html_sidebars = {"index": [], "start": [], "benchmarks": []}


def _only_what_is_there(app: object, name: str, source: list[str]) -> None:
    """Pages that the guide lists before they are written: leave them out until they are."""
    if name == "guide":
        for page in ("sparse", "tabular"):
            if not (HERE / f"{page}.md").exists():
                source[0] = source[0].replace(f"\n{page}\n", "\n")


def setup(app: "sphinx.application.Sphinx") -> None:  # noqa: F821
    """Connect what is above."""
    app.connect("source-read", _only_what_is_there)
