"""How a run comes about: a fresh process for an engine or a program, a scribe beside it, and a live tail."""
