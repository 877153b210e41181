"""The command line: one command group a file; each command imports its room when it runs."""
