"""Chooses the queries of rendered frames: python examples/make_queries.py writes examples/rendered/queries.json.

    python examples/make_queries.py [FOLDER]     FOLDER: any set of the renderer, with annotations.json


Each query is a person who is well visible in one camera and to be found in others: the query camera's own frames are
ignored, so that neither the background nor the viewpoint gives the person away. People who were rendered on purpose to
look like somebody else of their scene give at least half of the queries. The same annotations give the same queries.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

DEFAULT_FOLDER = Path(__file__).parent / "rendered"
QUERIES = 24
LOOKALIKE_QUERIES = 14  # of people with a near-duplicate in their scene; nobody gives more than two
MIN_VISIBILITY = 0.7
MIN_HEIGHT = 80  # pixels
MIN_OTHER_FRAMES = 2  # of other cameras, in which the person counts


def main(folder: Path) -> None:
    data = json.loads((folder / "annotations.json").read_text())
    images = {image["id"]: image for image in data["images"]}
    lookalikes, others = [], []
    for person in data["people"]:
        labels = [a for a in data["annotations"] if a["person_id"] == person["person_id"] and not a["ignore"]]
        views = best_views(labels, images)
        (lookalikes if person["near_duplicate"] else others).append(views)
    chosen = in_turns(lookalikes, LOOKALIKE_QUERIES)
    chosen += in_turns(evenly(others, QUERIES - len(chosen)), QUERIES - len(chosen))
    queries = sorted((query(label, images) for label in chosen), key=lambda q: (q["image"], q["person_id"]))
    lines = ",\n".join(json.dumps(query) for query in queries)
    (folder / "queries.json").write_text(f"[\n{lines}\n]\n")


def best_views(labels: list[dict], images: dict) -> list[dict]:
    """The tallest good view of a person in each camera, tallest camera first."""
    by_camera = defaultdict(list)
    for label in labels:
        by_camera[images[label["image_id"]]["camera"]].append(label)
    views = []
    for own in by_camera.values():
        good = [a for a in own if a["visibility"] >= MIN_VISIBILITY and a["bbox"][3] >= MIN_HEIGHT]
        if good and len(labels) - len(own) >= MIN_OTHER_FRAMES:
            views.append(max(good, key=lambda a: (a["bbox"][3], -a["image_id"])))
    return sorted(views, key=lambda a: (-a["bbox"][3], a["image_id"]))


def in_turns(people: list[list[dict]], count: int) -> list[dict]:
    """The first view of everybody, then second ones of other cameras, until there are enough."""
    turns = [views[0] for views in people if views] + [views[1] for views in people if len(views) > 1]
    return turns[:count]


def evenly(people: list, count: int) -> list:
    """`count` of the people, spread over the list and so over the scenes; all when there are fewer."""
    return people if len(people) <= count else [people[i * len(people) // count] for i in range(count)]


def query(label: dict, images: dict) -> dict:
    image = images[label["image_id"]]
    own_camera = [name(other) for other in images.values() if other["camera"] == image["camera"]]
    return {
        "image": name(image),
        "bbox": label["bbox"],
        "person_id": label["person_id"],
        "ignore_images": sorted(own_camera),
    }


def name(image: dict) -> str:
    return image["file_name"].removeprefix("frames/")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FOLDER)
