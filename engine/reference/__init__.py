"""The plain twin: the rules of docs/spec.md said once more, for reading and for checking the compiled engine."""
