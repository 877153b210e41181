"""From strings to token ids: CLIP's byte-pair encoding, or a `tokenizer.json`.

What must stay true: ids equal those of the library that the model was trained with.
Imported by: encoder, pull, tower and `training`.
"""
