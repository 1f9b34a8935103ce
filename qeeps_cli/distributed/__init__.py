"""The work of an index or a search, shared by the workers of a Ray cluster. The only unit that knows Ray."""
