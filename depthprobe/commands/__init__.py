"""The command line: one thin file for each subcommand. Parse, call, show; heavy imports happen inside."""
