"""The JavaScript and the styles of the views: modules in `assets/`, joined into one without a build step."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([a-z_]+)\.js";\n', re.MULTILINE)


@cache
def script(entry: str) -> str:
    """The module `entry` with all that it imports before it, as one module that imports nothing.

    The modules share one scope then: no two of them may declare the same name, which a test holds.
    """
    parts = dict.fromkeys(_in_order(entry, ()))
    return "\n".join(_body(part, is_entry=part == entry) for part in parts)


@cache
def style(name: str = "view") -> str:
    """A style sheet: of what all views share, or what one has beside it."""
    return _asset(f"{name}.css")


def modules(entry: str) -> list[str]:
    """The names of the modules that `entry` is made of, in the order that they are joined in."""
    return list(dict.fromkeys(_in_order(entry, ())))


def _in_order(name: str, above: tuple[str, ...]) -> list[str]:
    if name in above:
        raise ValueError(f"{' imports '.join((*above, name))}: modules can not import each other")
    needed = [found[2] for found in _IMPORT.finditer(_asset(f"{name}.js"))]
    return [one for other in needed for one in _in_order(other, (*above, name))] + [name]


def _body(name: str, is_entry: bool) -> str:
    text = _IMPORT.sub("", _asset(f"{name}.js"))
    return text if is_entry else re.sub(r"^export ", "", text, flags=re.MULTILINE)


def _asset(name: str) -> str:
    return (resources.files("workbench.view") / "assets" / name).read_text(encoding="utf-8")
