"""The quality of an encoder: kNN, linear probe, few-shot, zero-shot, retrieval, spectrum.

Each module maps embeddings to numbers and does not know their source (a run, a bundle, the training
loop). What must stay true: none draws from the global random state.
Imported by: doctor, loop, studies and `cli`.
"""
