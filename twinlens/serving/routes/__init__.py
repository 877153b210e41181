"""The paths of the server, one router a file. A route reads, calls the service, answers bytes."""
