"""Matches of one person to sightings: who was where, from when to when. Pure Python; no network, no torch."""
