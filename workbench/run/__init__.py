"""What a run is: its tables, timeline and ledger. Pure data, read without torch, a GPU or an engine."""
