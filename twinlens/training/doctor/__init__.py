"""The doctor: says in plain words whether a run is healthy, and if not, why and what to do.

`measurements` are taken while training and written to the run's log; `examination` reads the log
alone, so a run that died can be examined and live and later verdicts are the same. What must stay
true: measuring changes no number of the training. Imported by: loop, report, studies and `cli`.
"""
