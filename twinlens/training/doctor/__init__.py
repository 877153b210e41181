"""The doctor: says whether a run is healthy, and if not, why and what to do.

`measurements` are taken while training and written to the run's log. `examination` reads only the
log, so that a crashed run can be examined, and live and later verdicts agree. What must stay true:
measuring changes no result of the training.
Imported by: loop, report, studies and `cli`.
"""
