"""`python -m engine`: the command line."""

import sys

from engine.cli import main

if __name__ == "__main__":
    status = main()
    # If an interrupt ever left code that was compiled from text, as libraries make it, CPython ends a module by the
    # signal itself, though the interrupt was caught; the next such code lets it forget.
    exec("")
    sys.exit(status)
