"""The pages of a published record: shells without data, their script, style and JSON Schemas.

A page depends on its arguments and on the files in `site/` only. Its script fetches `latest.json`
and what that names, so that a daily publication changes no page.
"""

import hashlib
import html
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

_SITE = Path(__file__).parent / "site"

_ABOUT = "Which files exist in Binance's public archive, and which are missing, late or replaced"

_EXAMPLE = "https://register.example.org"
"""Where the examples fetch from while no address is known; the script puts in the site's own."""


def build(datasets: Sequence[str], *, title: str, address: str | None) -> dict[str, bytes]:
    """All files that are the same until the package or the datasets change, by their names.

    Args:
        datasets: those that have a page; its folder is the dataset's name.
        title: of the first page.
        address: the site's public address, if known. Links are relative in any case.
    """
    found: dict[str, bytes] = {}
    assets = {}
    for kind, ending in (("script", "js"), ("style", "css"), ("icon", "svg")):
        content = (_SITE / f"register.{ending}").read_bytes()
        assets[kind] = f"assets/register-{hashlib.sha256(content).hexdigest()[:16]}.{ending}"
        found[assets[kind]] = content
    for schema in sorted((_SITE / "schemas").glob("*.json")):
        found[f"schemas/{schema.name}"] = schema.read_bytes()
    base = address.rstrip("/") if address else None

    def page(name: str, kind: str, heading: str, about: str, *, dataset: str = "") -> None:
        texts = {
            **assets,
            "root": "../" * name.count("/"),
            "feed": "feed.atom" if dataset else f"{'../' * name.count('/')}feed.atom",
            "page": kind,
            "title": heading if heading == title else f"{heading} - {title}",
            "heading": heading,
            "description": about,
            "dataset": dataset,
            "address": base or _EXAMPLE,
        }
        texts = {part: html.escape(text) for part, text in texts.items()}
        texts["canonical"] = ""
        if base:
            there = f"{base}/{quote(name.removesuffix('index.html'))}"
            texts["canonical"] = f'<link rel="canonical" href="{html.escape(there)}">\n'
        texts["folders"] = "".join(
            f'<li><a href="{html.escape(quote(one))}/index.html">{html.escape(one)}</a></li>\n'
            for one in datasets
        )
        texts["main"] = _filled(f"{kind}.html", texts).rstrip("\n")
        found[name] = _filled("page.html", texts).encode()

    page("index.html", "index", title, f"{_ABOUT}.")
    page(
        "symbol.html", "symbol", "Symbols", "Every dataset of a symbol: first and last file, holes."
    )
    page("about.html", "about", "About and format", "What is published here, and how to read it.")
    for dataset in datasets:
        page(f"{dataset}/index.html", "dataset", dataset, f"{_ABOUT}: {dataset}.", dataset=dataset)
    return found


def _filled(name: str, texts: dict[str, str]) -> str:
    """A page of ours with its texts, which are HTML."""
    # A text may hold anything: each place is filled once.
    parts = re.split(r"\{\{([a-z]+)\}\}", (_SITE / name).read_text(encoding="utf-8"))
    return "".join(texts[part] if n % 2 else part for n, part in enumerate(parts))
