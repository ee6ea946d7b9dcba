"""Prints what an installed distribution requires, one a line, less some: requirements.py DISTRIBUTION WITHOUT …

For packages that are wrong beside a CPU build of torch, and that pip can not be told to leave out.
"""

import sys
from importlib.metadata import requires

from packaging.requirements import Requirement

distribution, *without = sys.argv[1:]
for requirement in map(Requirement, requires(distribution) or []):
    is_needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    if is_needed and requirement.name not in without:
        requirement.marker = None
        print(requirement)
