"""What can be chosen, one file an axis: how it is done, and what must show in a run's events if it was."""
