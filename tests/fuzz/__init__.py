"""A fuzzer of the reader: ``python -m tests.fuzz --help``.

Strategy: `files` takes rasters apart and puts them together with right checksums, so
that damage reaches the code behind them; `seeds` makes small rasters of every kind;
`mutate` damages one region at a time; `check` says what is allowed to come of it;
`worker` runs a batch in a process that may crash, hang or run out of memory, and
`__main__` starts workers and reports.
"""
