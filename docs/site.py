"""A hook of mkdocs: what the site takes from outside docs/, and links that would lead out of it.

The pages are written to be read in the repository too. So a link to another page of the site is
changed to its place there, and one to a source file, which the site does not have, to its name.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "SECURITY.md": "policy.md",
}
"""Pages of the repository's top, and what they are called in the site."""

LINK = re.compile(
    r"(?P<image>!?)\[(?P<text>[^\]\n]+)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)"
)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the repository's top."""
    for path, page in PAGES.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Change the links of a page to what the site has."""
    del config
    place = {page_: path for path, page_ in PAGES.items()}.get(
        page.file.src_uri, f"docs/{page.file.src_uri}"
    )

    def changed(link: re.Match[str]) -> str:
        target = link["target"]
        if "://" in target:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        if path == "docs/adr":
            path = "docs/adr/0001-list-instead-of-head.md"
        inside = PAGES.get(path, path.removeprefix("docs/"))
        if path not in PAGES and not path.startswith("docs/"):
            # In backticks, unless the text has them already.
            return link["text"] if "`" in link["text"] else f"`{link['text']}`"
        file = files.get_file_from_path(inside)
        if file is None or file.inclusion.is_excluded():
            return link["text"]
        here = posixpath.dirname(page.file.src_uri)
        there = posixpath.relpath(inside, here or ".")
        return f"{link['image']}[{link['text']}]({there}{link['anchor'] or ''})"

    return LINK.sub(changed, markdown)
