"""Formulas as pictures within the page: ziamath draws LaTeX as SVG when the site is built.

No script, no font and no network is needed to read them, and they have the colour of the text around
them. MathML would be smaller, but its brackets only grow where the reader's system has a font for it.
"""

from __future__ import annotations

from html import escape
from typing import Any

import ziamath
from docutils import nodes
from sphinx.application import Sphinx

ziamath.config.svg2 = False  # every picture by itself: glyphs of two sizes would share their names
_SIZE = {"inline": 16.5, "block": 18.0}  # pixels


def picture(latex: str, kind: str) -> str:
    """An SVG element; one that stands in a line stands on its baseline."""
    text = " ".join(latex.split())
    drawn = ziamath.Latex(text, size=_SIZE[kind], color="currentColor", inline=kind == "inline")
    style = f"vertical-align:{drawn.getyofst():.2f}px" if kind == "inline" else ""
    label = f'class="formula" role="img" aria-label="{escape(text)}" style="{style}"'
    element: str = drawn.svg()
    return element.replace("<svg ", f"<svg {label} ", 1)


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(picture(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="formula">{picture(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def _nothing(writer: Any, node: nodes.Node) -> None:
    pass


def setup(app: Sphinx) -> dict[str, bool]:
    """Take the place of MathJax."""
    app.add_html_math_renderer(
        "pictures", inline_renderers=(_inline, _nothing), block_renderers=(_block, _nothing)
    )
    app.config.html_math_renderer = "pictures"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
