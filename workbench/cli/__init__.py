"""The command line: one file a subcommand, loaded only when it is called."""
