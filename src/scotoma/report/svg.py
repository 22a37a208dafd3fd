"""SVG text of Matplotlib figures: reproducible bytes, readable alone and inside the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

INK, MUTED, GRID, PAPER = "#20242b", "#5c6470", "#e3e5e9", "#ffffff"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colours of Okabe and Ito (jfly.uni-koeln.de/color, 2008), distinct for common colour vision."""

WIDTH = 384 / 72
"""Width in inches, small enough that 9.5 pt text is readable on a phone."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "scotoma",
    # A dollar sign in the name of an attack or a class starts no formula.
    "text.parse_math": False,
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.labelpad": 6,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "savefig.facecolor": PAPER,
}

PAGE_COLOURS = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--card"} | {
    colour: f"--series-{i + 1}" for i, colour in enumerate(PALETTE)
}

_TAG = re.compile(r"<[^!?>][^>]*>")
_REFERENCE = re.compile(r"(?:href=\"#|url\(#)([^\")]+)")
_LEAKING_STYLE = re.compile(r"\s*<defs>\s*<style type=\"text/css\">\*\{[^}]*\}</style>\s*</defs>")


def render(draw: Callable[[], Canvas], title: str, description: str) -> str:
    """Return a drawing as a standalone SVG document, in `STYLE` whatever matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        stream = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        draw().savefig(stream, format="svg", metadata=nothing)
    drawing = stream.getvalue()
    # Matplotlib's rule for "*" would apply to every drawing of a page; inherited attributes don't.
    drawing = _LEAKING_STYLE.sub("", drawing[drawing.index("<svg") :], count=1)
    used = set(_REFERENCE.findall(drawing))
    drawing = _TAG.sub(lambda tag: _tidy(tag[0], used), drawing)
    opening, rest = drawing.split(">", 1)
    named = f'{opening} role="img" stroke-linejoin="round" stroke-linecap="butt">'
    named += f"\n <title>{escape(title, quote=False)}</title>"
    named += f"\n <desc>{escape(description, quote=False)}</desc>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n{named}{rest}'


def _tidy(tag: str, used: set[str]) -> str:
    """Use a generic font, and drop unused ids: Matplotlib gives equal images equal ids."""
    tag = re.sub(r' id="([^"]*)"', lambda name: name[0] if name[1] in used else "", tag)
    return re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", tag)


def for_page(document: str, prefix: str) -> str:
    """Return a drawing for a page: ids prefixed, colours that follow the page."""
    return _TAG.sub(lambda tag: _adapt(tag[0], prefix), document[document.index("<svg") :])


def _adapt(tag: str, prefix: str) -> str:
    tag = re.sub(r'(\bid="|href="#|url\(#)', lambda start: start[0] + prefix + "-", tag)
    if tag.startswith("<svg"):
        return re.sub(r'role="img"', f'role="img" aria-labelledby="{prefix}-title"', tag)
    if tag == "<title>":
        return f'<title id="{prefix}-title">'
    return re.sub(r"(fill|stroke): (#[0-9a-f]{6})", _colour, tag)


def _colour(match: re.Match[str]) -> str:
    role = PAGE_COLOURS.get(match[2])
    return f"{match[1]}: var({role})" if role else match[0]
