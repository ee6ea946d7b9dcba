"""An executed notebook as one HTML page that needs nothing else: no network and no kernel."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

LIVE = "application/vnd.jupyter.widget-view+json"  # the page shows what a widget leaves beside it
TEMPLATE = """
{%- extends "lab/index.html.j2" -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_css -%}
<link rel="icon" href="data:,"><style>:root { color-scheme: light; } main { max-width: 1180px; margin: auto; }</style>
<script>
  // The views take the theme of the page that they stand in, which is light, and not that of the system.
  document.addEventListener("load", ({ target }) => {
    if (target.contentDocument?.body) target.contentDocument.body.dataset.jpThemeLight = "true";
  }, true);
</script>
{%- endblock -%}
"""
"""Less what nbconvert's own fetches from other hosts: require.js, the widgets' manager, MathJax and Mermaid."""


def html_page(executed: NotebookNode, title: str) -> str:
    """Gives the page of a notebook."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(raw_template=TEMPLATE, exclude_anchor_links=True)
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    text, _ = exporter.from_notebook_node(_still(executed), {"metadata": {"name": title}})
    return str(text)


def _still(executed: NotebookNode) -> NotebookNode:
    """The notebook without what only a kernel can show."""
    shown = copy.deepcopy(executed)
    shown.metadata.pop("widgets", None)
    for cell in shown.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if LIVE not in output.get("data", {})]
    return shown
