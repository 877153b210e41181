"""Data: image folders, WebDataset tars, zips with `index.jsonl`, tables of path and caption.

Every source is a list of records with random access to encoded bytes. Faulty images are counted and
listed; they never stop a run. Imported by: suites, runs, evaluation, export, doctor, report and
loop.
"""
