"""Weights of other people's files, read as data and written into our networks."""
