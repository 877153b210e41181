"""What an encoder is worth: kNN, linear probe, few-shot, zero-shot, retrieval, spectrum.

Each takes embeddings and answers numbers; where the embeddings come from (a run, a bundle, the
training loop) is not its business. What must stay true: none draws from the global random state.
Imported by: doctor, loop, studies and `cli`.
"""
