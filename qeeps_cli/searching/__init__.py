"""The ways to search: given a query and frames, yield matches. Nothing here prints or writes a file."""
