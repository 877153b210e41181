"""RUN/report.html: all that there is to see of a run, in one file that needs nothing else.

`charts` draws numbers as SVG, `pictures` looks at images through the encoder, `page` puts them
together. What must stay true: the page loads nothing from anywhere, and names in it are escaped.
"""
