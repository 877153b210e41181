"""Data: image folders, WebDataset tars, zips with `index.jsonl`, tables of path and caption.

What must stay true: every source is a list of records with random access to encoded bytes; faulty
images are counted and listed, and never stop a run.
Imported by: suites, runs, evaluation, export, doctor, report and loop.
"""
