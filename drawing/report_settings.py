"""What the report says of settings, versions and files: folded on the page, for who wants to repeat it."""

import json
from collections import Counter

from drawing.collect import Collection
from drawing.report_tables import cells, heads, table, text
from results.collecting import cell
from results.run import Run

BY_RUN = ("target", "method", "layer", "seed")


def settings(collection: Collection) -> str:
    """Every setting with its values; several where runs differ, as layers and methods do."""
    configs = [{k: v for k, v in r["config"].items() if k not in BY_RUN} for r in collection.results]
    quality = [collection.quality] if collection.quality else []
    rows = ""
    for source, found in (
        ("masks", configs),
        ("masks", [_provenance(r) | r["versions"] for r in collection.results]),
        ("SAE quality", [q["config"] | (_as_dict(q.get("versions"))) | _provenance(q) for q in quality]),
    ):
        for key in dict.fromkeys(key for one in found for key in one):
            counts = Counter(json.dumps(one.get(key), sort_keys=True, default=str) for one in found)
            rows += f'<tr><td>{source}</td><th scope="row">{text(key)}</th><td>{text(_values(counts))}</td></tr>'
    caption = "As saved with the results. null: plays no part. Where runs differ, the number of runs stands behind."
    return table("settings-table", caption, heads(("of", "setting", "value"), "text"), rows)


def files(collection: Collection) -> str:
    """Every result below OUTPUT/MODEL, with the fingerprints that it was read by."""
    rows = ""
    for r in collection.results:
        name, found = Run(*cell(r)), (r["digest"], r["tensors_digest"], r["config"]["pairs_digest"])
        rows += f'<tr><th scope="row">{text(name)}</th>{cells(map(text, found), " class=text")}</tr>'
    caption = (
        "Below OUTPUT/MODEL; each name is that of a .json with scores and settings, and of a .safetensors with theta, "
        "outcomes and answers of the test pairs. Fingerprints: the first 16 digits of a SHA-256."
    )
    return table("files-table", caption, heads(("result", "json", "tensors", "pairs"), "text"), rows)


def _provenance(content: dict) -> dict:
    return {"commit": content.get("commit"), "device": content.get("device")}


def _as_dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def _values(counts: Counter, most: int = 8) -> str:
    """'0.003 (60), null (36)'; one value stands alone."""
    if len(counts) == 1:
        return next(iter(counts))[:300]
    said = [f"{value[:60]} ({n})" for value, n in counts.most_common(most)]
    return ", ".join(said) + (f" and {len(counts) - most} more values" if len(counts) > most else "")
