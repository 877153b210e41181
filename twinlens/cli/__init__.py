"""The command line: one command or group per file; each imports its room when it runs."""
