"""Checks a built site: each link within it leads to a place that is there; no page fetches anything."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Names of places in a page, where its links lead, and what is fetched to show it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sort the attributes of a tag."""
        found = {name: value or "" for name, value in attrs}
        self.places |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and found.get("rel") not in ("canonical",):
            self.fetched.append(found.get("href", ""))
        if tag in ("script", "img", "iframe", "source", "video") and "src" in found:
            self.fetched.append(found["src"])


def check(folder: Path) -> list[str]:
    """What is wrong with the site in this folder."""
    pages = {
        path: Page(path) for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts
    }
    wrong = []
    for path, page in pages.items():
        name = path.relative_to(folder)
        for link in page.links + page.fetched:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.fetched and parts.scheme != "data":
                    wrong.append(f"{name}: fetches {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                wrong.append(f"{name}: {link} is not there")
            elif (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].places
            ):
                wrong.append(f"{name}: {link} has no such place")
    for style in folder.rglob("*.css"):
        text = style.read_text(encoding="utf-8", errors="replace")
        if "url(http" in text or "url(//" in text or "@import url(" in text:
            wrong.append(f"{style.relative_to(folder)}: fetches something")
    return wrong


if __name__ == "__main__":
    found = check(Path(sys.argv[1]).resolve())
    print(*found, f"{len(found)} faults", sep="\n")
    sys.exit(bool(found))
