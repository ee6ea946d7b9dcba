"""How a run is observed: the probe an engine reports to, the recorder behind it, and the sources that watch memory."""
