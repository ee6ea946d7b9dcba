"""What is made of the text that an option is given."""

from __future__ import annotations

import argparse


def filled(text: str) -> str:
    """Gives the text, which must say something: a variable that a script never set is no choice of the default."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty: say which, or leave the option out")
    return text
