"""The doctor: says in plain words whether a run is healthy, and if not, why and what to do.

`vitals` measures while training and writes into the run's log; `verdicts` reads the log alone, so a
run that died can be examined, and the same code speaks live and afterwards. What must stay true:
measuring changes no number of the training.
"""
