"""The command line: flags, files and environment in; data on stdout, words on stderr, an exit code out."""
