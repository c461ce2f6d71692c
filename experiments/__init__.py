"""Experiments: this package turns a command line into runs, and trains and tests them.

- `arguments.py` parses a command line and defines `Run`.
- `protocols.py` holds the papers' protocols as data.
- `run.py` makes runs from a command line and a protocol.
- `config.py` resolves a run to its config.
- `execute.py` trains and tests a run.
- `sweep.py` executes the many runs of a sweep.
"""
