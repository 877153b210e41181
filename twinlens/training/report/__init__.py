"""RUN/report.html: what there is to see of a run, in one self-contained file.

`charts` draws numbers as SVG, `pictures` looks at images through the encoder, `page` puts them
together. What must stay true: the page loads nothing from anywhere, and names in it are escaped.
Imported by: studies and `cli`.
"""
