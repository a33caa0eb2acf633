"""The documentation as a program: its commands are run, its output compared, its reference pages generated."""
