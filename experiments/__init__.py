"""This package turns a command line into runs and executes the runs. A run is one training or one test.

- `arguments.py` parses a command line and defines the class `Run`.
- `protocols.py` holds the papers' protocols as data.
- `run.py` executes the runs of a protocol.
- `config.py` builds the config of a run.
- `classes.py` finds the class of a trainer or data set by name.
- `checks.py` checks names and paths before a run starts.
- `execute.py` executes one run.
- `finished.py` recognises a finished run, which is skipped.
- `sweep.py` executes the runs of a sweep. `sweep_file.py` reads the sweep's file, `plan.py` lists the runs, and
  `launchers.py` starts the jobs.
- `repeat.py` repeats a finished run and compares both runs.
"""
