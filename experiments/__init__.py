"""Experiments: from a command line to a `Run`, to a config, to training and testing; and sweeps of many runs.

`arguments.py` parses a command line, `protocols.py` holds the papers' protocols as data, and `run.py` turns both into
runs. `config.py` resolves a run to its config, `checks.py` finds errors early, and `execute.py` trains and tests.
`finished.py` recognises a finished run, and `classes.py` finds classes by name.
"""
