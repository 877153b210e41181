"""Data: image folders, WebDataset tars, zips with `index.jsonl`, tables of path and caption.

Every source is a list of records with random access to encoded bytes; what is wrong with an image
is counted and listed, never fatal. Imported by: suites, runs, evaluation, export, doctor, report
and loop.
"""
