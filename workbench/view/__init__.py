"""What a screen shows of runs: widgets, figures, static pages, and the data that they are drawn from."""
