"""Several processes as one batch: ranks, gathering with gradients, FSDP2 shards.

What must stay true: a run over ranks equals the run of one process with the whole batch.
Imported by: data, runs, doctor, loop and `cli`.
"""
