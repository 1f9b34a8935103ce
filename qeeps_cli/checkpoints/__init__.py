"""Weights as files: which there are, whether they are whole, and how others become ours."""
