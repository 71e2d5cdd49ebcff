"""``python -m kerasall``: the command line."""

from kerasall.cli.app import main

main()
