"""What a large collection needs in time, memory and disk: the stages of `ten_million.py`."""
