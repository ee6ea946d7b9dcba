"""Notebooks, without outputs: the tour, one a study, and generations under a config of your choice."""
