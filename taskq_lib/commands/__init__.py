"""The command line: one file a command, each with `arguments(parser)` and `run(args) -> exit code`.

Exit codes: 0 done; 1 it ran and what it checks does not hold; 2 it could not run, or not go
on, and the message says what to do; 130 and 143 after Ctrl-C and SIGTERM.
"""
