"""What a large collection takes in time, memory and disk: the stages of `ten_million.py`."""
