"""The command line: options and printing, one file a command. Work is done below, in ``studies``."""
