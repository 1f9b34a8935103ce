"""Renders a set once more with its people changed: the same places, poses, cameras and moments, for sanity_study.py.

    python benchmarks/render_twins.py --renderer FOLDER --change clothes -- --out DIR --frames 64 --seed 106 …

FOLDER holds the generator's render.py (examples/README.md); what stands after -- goes to it, and should be what
rendered the set. --change clothes: everybody has other colours and patterns of top, trousers and shoes, the farthest
from their own of a few that the generator draws. --change person: somebody else of the same sex wears the same clothes
and carries the same things.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DRAWS = 8  # wardrobes to choose the most different one from
TOP, TROUSERS, SHOES = range(3)  # garments in the generator's arrays; hair follows

Person = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--renderer", type=Path, required=True)
    options.add_argument("--change", choices=["clothes", "person"], required=True)
    options.add_argument("render", nargs="*", help="options of render.py, after --")
    given = options.parse_args()
    sys.path.insert(0, str(given.renderer.resolve()))
    import people
    import render

    rng = np.random.default_rng(0)  # not the renderer's, whose numbers have to fall as they did
    draw_identity = people.identity

    def identity(own_rng: np.random.Generator, names: list[str], before: list[Person]) -> Person:
        person = draw_identity(own_rng, names, before)
        return change_clothes(person, rng, people.colours) if given.change == "clothes" else swap(person, rng, names)

    people.identity = identity
    sys.argv = ["render.py", *given.render, "--workers", "1"]  # in this process, where the change is
    render.main()


def change_clothes(
    person: Person, rng: np.random.Generator, draw: Callable[[np.random.Generator], dict[str, Any]]
) -> Person:
    """Other colours and patterns on the same body; what the garments are stays, because the renderer's numbers hang on
    it."""
    own = person["col"]
    garments = [TOP, TROUSERS, SHOES]

    def difference(other: dict[str, Any]) -> float:
        apart = np.sqrt(other["ca"][:SHOES]) - np.sqrt(own["ca"][:SHOES])  # linear light, nearly as the eye sees it
        return float(np.linalg.norm(apart, axis=1).min())

    other = max((draw(rng) for _ in range(DRAWS)), key=difference)
    changed = {**own, "amt": [1.0, 1.0, 1.0, own["amt"][3]]}  # how much of the colour is seen
    for key in ("ca", "cb", "pat", "psc"):
        changed[key] = own[key].copy()
        changed[key][garments] = other[key][garments]
    return {**person, "col": changed}


def swap(person: Person, rng: np.random.Generator, names: list[str]) -> Person:
    """Another body and face in the same outfit. Names end in sex, number and outfit: Asian_F_1_Casual."""

    def kind(name: str) -> tuple[str, str]:
        _, sex, _, outfit = name.rsplit("_", 3)
        return sex, outfit

    own = person["avatar"]
    others = [name for name in names if name != own and kind(name) == kind(own)]
    return {**person, "avatar": others[rng.integers(len(others))], "skin": 1 + rng.normal(0, 0.05, 3)}


if __name__ == "__main__":
    main()
