"""How Sphinx makes the site: `make docs`."""

import pathlib
import re
import sys

import sphinx.addnodes

project = "robust_manifold"
html_title = "robust_manifold"
html_theme = "furo"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
# Texts that the pages of results hold already.
exclude_patterns = ["results/words/*", "results/records/*"]

# Anchors as a repository's own view makes them, so that links work in both.
myst_heading_anchors = 3
# Notebooks are shown as they were stored; `make test-all` runs them.
nb_execution_mode = "off"
nb_merge_streams = True

# What single backquotes hold is code.
default_role = "code"
autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
maximum_signature_line_length = 70
# Fields of dataclasses are told as they are written, their types by the signature.
napoleon_custom_sections = [("Attributes", "params_style")]

# A block that names no language is text, or what was printed.
highlight_language = "none"

_COLON = "\ufff9"
_ROOT = pathlib.Path(__file__).parents[1]
_PAGES = {"README": "index", "CONTRIBUTING": "contributing", "CHANGELOG": "changelog"}
"""Texts of the repository's top folder, and the pages that include them."""


def link_the_repository(app, doctree):
    """Turns links to files outside of this folder to pages, or to copies of the files.

    A link to a folder, of which the site has no page, becomes plain text.
    """
    for link in list(doctree.findall(sphinx.addnodes.pending_xref)):
        target = link["reftarget"]
        # Of a file in this folder, this is the path of its page; see MyST.
        path = (_ROOT / "docs" / target).resolve()
        if link.get("refdomain") is None:
            # Links begin at the page, or at the top folder if its text is included.
            page = _ROOT / "docs" / app.env.docname
            others = ((page.parent / target).resolve(), (_ROOT / target).resolve())
            path = next((each for each in (path, *others) if each.exists()), others[1])
        if path.stem in _PAGES and path.parent == _ROOT:
            link["refdomain"], link["reftarget"] = "doc", _PAGES[path.stem]
            link["reftargetid"] = link.get("reftargetid")
        elif path.is_dir():
            link.replace_self(link.children)
        elif path.is_file():
            copy = sphinx.addnodes.download_reference("", "", *link.children)
            copy["reftarget"] = f"/../{path.relative_to(_ROOT)}"
            link.replace_self(copy)


def leave_out_of_the_sidebar(app, name, source):
    """Lets the pages of results stand in no table of contents: one page links them."""
    if name.startswith("results/"):
        source[0] = f"---\norphan: true\n---\n{source[0]}"


def shorten(app, what, name, thing, options, signature, returned):
    """Returns signatures with the types as the package writes them."""

    def short(text):
        text = (text or "").replace("jaxlib._jax.Array", "Array")
        return re.sub(r"(\w+)\[Array, ''\]", r"\1", text) or None

    return short(signature), short(returned)


def skip(app, what, name, thing, skipped, options):
    """Skips a method of which a public base class says what it does."""
    thing = getattr(thing, "fget", getattr(thing, "func", thing))
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    owner = getattr(module, getattr(thing, "__qualname__", "").rpartition(".")[0], None)
    for base in owner.__mro__[1:] if isinstance(owner, type) else ():
        public = sys.modules.get(".".join(base.__module__.split(".")[:2]))
        if name in vars(base) and getattr(public, base.__name__, None) is base:
            return True
    return None


def hide_colons(app, what, name, thing, options, lines):
    """Keeps napoleon from taking what stands before a colon for a type."""
    if what in ("attribute", "property", "data"):
        lines[:] = [line.replace(":", _COLON) for line in lines]


def show_colons(app, what, name, thing, options, lines):
    """Brings them back."""
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def setup(app):
    """Connects these to Sphinx."""
    # Before Sphinx gathers what is to be copied.
    app.connect("doctree-read", link_the_repository, priority=400)
    app.connect("source-read", leave_out_of_the_sidebar)
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-skip-member", skip)
    # Napoleon has the priority 500.
    app.connect("autodoc-process-docstring", hide_colons, priority=400)
    app.connect("autodoc-process-docstring", show_colons, priority=600)
