"""RUN/report.html: everything to see of a run, in one self-contained file.

`charts` draws numbers as SVG, `pictures` shows images through the encoder, `page` combines them.
What must stay true: the page loads nothing, and names in it are escaped.
Imported by: studies and `cli`.
"""
