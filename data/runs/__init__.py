"""Runs that were recorded on machines which few have at hand: see `data/README.md`."""
