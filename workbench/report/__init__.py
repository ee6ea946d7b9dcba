"""Notebooks executed without a browser: parameters in, a page and findings out."""
