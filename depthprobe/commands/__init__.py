"""The command line: one thin file a subcommand. Parse, call, show; heavy imports happen inside."""
