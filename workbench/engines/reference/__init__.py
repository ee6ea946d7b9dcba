"""A small engine of our own, in which every mechanism can be taken apart. Begin with `engine.py`."""
