"""The offline cache: what the network found in frames, kept in a folder of immutable HDF5 segments (docs/cache.md)."""
