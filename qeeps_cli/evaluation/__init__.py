"""The metrics of person search and the protocols that run them. Numpy only."""
