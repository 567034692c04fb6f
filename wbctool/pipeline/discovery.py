"""Discovery of the slides below a folder."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wbctool.errors import SlidesNotFound
from wbctool.imaging.formats import UnreadKind, describe_unread, get_unread_kind, is_image, is_placeholder
from wbctool.imaging.scan import is_scan
from wbctool.notices import list_names, log_notice
from wbctool.paths import SLIDES_CSV, SLIDES_XLSX
from wbctool.pipeline.own_figures import is_own_figure
from wbctool.pipeline.scan_files import find_scans, list_scan_files
from wbctool.store.run_record import is_results
from wbctool.system_folders import is_passed_over, is_system_folder
from wbctool.text import natural_sort_key
from wbctool.types.cells import Slide

_TABLES = frozenset({SLIDES_CSV, SLIDES_XLSX})


def find_slides(
    root: Path,
    follow_links: bool = False,
    skip: Collection[Path] = (),
    notify: Callable[[str], None] = log_notice,
) -> tuple[Slide, ...]:
    """Find every slide below a folder.

    Left out are hidden files and folders, the folders that systems make, the results of other runs, the figures of
    verifications and evaluations, and links that lead out of the folder. A folder is visited once, whatever links lead
    to it, so loops of links end. A folder that cannot be listed becomes a slide with a problem.

    Args:
        root: The folder, or a single image, which is a slide named after it.
        follow_links: Whether to follow links that lead out of the folder.
        skip: Folders to leave out.
        notify: Takes the notices: links that are not followed, and what looks like input but is not read.

    Returns:
        The slides, in natural order of their ids; the fields of each in natural order of their names.

    Raises:
        SlidesNotFound: ``root`` does not exist, is neither a folder nor an image, cannot be listed, or holds no image.
    """
    try:
        is_folder = root.resolve(strict=True).is_dir()
    except (FileNotFoundError, NotADirectoryError) as error:
        is_broken = os.path.islink(root)  # noqa: PTH114, of a path that is too long Path.is_symlink raises
        raise SlidesNotFound(f"{root} {'is a broken link' if is_broken else 'does not exist'}") from error
    except (OSError, RuntimeError) as error:  # forbidden, or a loop of links
        raise SlidesNotFound(f"{root} is not a readable folder") from error
    if not is_folder:
        return (_make_single_slide(root),)
    walker = _FolderWalker(root.resolve(), follow_links, frozenset(Path(os.path.realpath(path)) for path in skip))
    walker.visit()
    root_name = root.name if root.name not in {"", ".."} else root.resolve().name or "slides"
    slides = {"/".join(parts): found for parts, found in walker.slide_folders.items() if parts}
    if () in walker.slide_folders:
        slides[_free_id(root_name, slides)] = walker.slide_folders[()]
    for parts, scan in walker.scans:
        slides[_free_id("/".join(parts) or root_name, slides)] = scan
    notices = walker.describe_skipped()
    if not slides:
        raise SlidesNotFound("; ".join([f"no image found in {root}", *notices]))
    for notice in notices:
        notify(notice)
    return tuple(
        Slide(id_, found.folder, found.fields, found.problem, found.is_scan)
        for id_, found in sorted(
            slides.items(), key=lambda item: [natural_sort_key(part) for part in item[0].split("/")]
        )
    )


def is_unchanged(slide: Slide, root: Path, follow_links: bool) -> bool:
    """Return whether a slide's folder still holds the fields that it held when it was found."""
    try:
        if slide.is_scan:
            return slide.fields[0].is_file() and list_scan_files(slide.fields[0]) == slide.fields
        if root.is_file():
            return is_image(root)
        current_images = _FolderWalker(root.resolve(), follow_links, frozenset()).list_images(slide.folder)
    except OSError:
        return False
    return sorted(current_images) == sorted(slide.fields)


def _make_single_slide(image: Path) -> Slide:
    """Return the slide that is a single image."""
    path = Path(os.path.abspath(image))  # noqa: PTH100, Path.resolve would follow a link to another name
    if is_scan(path):
        return Slide(path.stem, path.parent, list_scan_files(path), is_scan=True)
    if is_image(path):
        return Slide(path.stem, path.parent, (path,))
    kind = get_unread_kind(path)
    if kind is None:
        raise SlidesNotFound(f"{image} is neither a folder nor an image of a kind that is read")
    raise SlidesNotFound(f"{image} is not read; {kind.advise(1)}")


@dataclass(slots=True)
class _SlideFolder:
    """A folder that directly holds images, or cannot be listed; or a scan.

    Attributes:
        folder: The folder.
        files: Its images; of a scan the files that it consists of, the one to open first.
        problem: Why the folder could not be listed; empty if it could.
        is_scan: Whether it is a scan.
    """

    folder: Path
    files: Sequence[Path]
    problem: str = ""
    is_scan: bool = False

    @property
    def fields(self) -> tuple[Path, ...]:
        """The files in the order that a slide has them."""
        if self.is_scan:
            return tuple(self.files)
        return tuple(sorted(self.files, key=lambda path: natural_sort_key(path.name)))


@dataclass(slots=True)
class _FolderWalker:
    """Collects the slides below a folder.

    Attributes:
        root: The folder.
        follow_links: Whether links that lead out of it are followed.
        skip: Folders that are left out.
        slide_folders: The folders with images so far, by the parts of their paths.
        scans: The scans so far, with the parts of their paths.
    """

    root: Path
    follow_links: bool
    skip: frozenset[Path]
    slide_folders: dict[tuple[str, ...], _SlideFolder] = field(default_factory=dict)
    scans: list[tuple[tuple[str, ...], _SlideFolder]] = field(default_factory=list)
    _visited: set[tuple[int, int]] = field(default_factory=set)
    _unread: dict[UnreadKind, list[str]] = field(default_factory=lambda: defaultdict(list))
    _unread_folders: list[str] = field(default_factory=list)
    _unread_tables: list[str] = field(default_factory=list)
    _links_outside: list[str] = field(default_factory=list)
    _broken_links: list[str] = field(default_factory=list)

    def visit(self) -> None:
        """Visit all folders, real ones before links, so that a slide is known by its own path and not by a link."""
        links = self._descend(self.root, ())
        while links:
            next_links: list[tuple[Path, tuple[str, ...]]] = []
            for folder, parts in links:
                next_links += self._descend(folder, parts)
            links = next_links

    def _descend(self, top: Path, top_parts: tuple[str, ...]) -> list[tuple[Path, tuple[str, ...]]]:
        """Visit a folder and the real folders below it; return the links to folders."""
        links: list[tuple[Path, tuple[str, ...]]] = []
        folders = [(top, top_parts)]
        while folders:
            folder, parts = folders.pop()
            images: list[Path] = []
            n_unread = 0
            try:
                if not self._mark_visited(folder):
                    continue
                for entry in self._pass_scans(folder, parts):
                    path = Path(entry.path)
                    if entry.is_dir():
                        (links if entry.is_symlink() else folders).append((path, (*parts, entry.name)))
                    elif _is_field(path):
                        images.append(path)
                    else:
                        n_unread += self._note_unread(path, parts)
            except OSError as error:
                if not parts:  # without the root every slide would seem to be gone
                    raise SlidesNotFound(f"{self.root} cannot be listed: {error.strerror or error}") from error
                self.slide_folders[parts] = _SlideFolder(folder, (), f"the folder cannot be listed: {error.strerror}")
                continue
            if images:
                self.slide_folders[parts] = _SlideFolder(folder, images)
            elif n_unread and parts:
                self._unread_folders.append("/".join(parts))
        return links

    def _pass_scans(self, folder: Path, parts: tuple[str, ...]) -> list[os.DirEntry[str]]:
        """Note the scans in a folder; return the entries that belong to none of them."""
        entries = list(self._iter_entries(folder))
        belonging = set[Path | None]()
        for scan in find_scans([Path(entry.path) for entry in entries if not entry.is_dir()]):
            scan_parts = (*parts, scan.name) if scan.name else parts
            self.scans.append((scan_parts, _SlideFolder(folder, scan.files, is_scan=True)))
            belonging |= {*scan.files, scan.companion}
        return [entry for entry in entries if Path(entry.path) not in belonging]

    def describe_skipped(self) -> list[str]:
        """Return the notices of what the laboratory may have expected to be read."""
        notices = describe_unread(self._unread)
        for text, names in (
            ("not slides, as they hold no image that can be read", self._unread_folders),
            ("not read, because it does not lie in the folder of all slides", self._unread_tables),
            (
                "skipped, because they lead out of the folder of slides (--follow-links follows them)",
                self._links_outside,
            ),
            ("skipped, because they are broken or circular links", self._broken_links),
        ):
            if names:
                notices.append(f"{text}: {list_names([repr(name) for name in sorted(names, key=natural_sort_key)])}")
        return notices

    def list_images(self, folder: Path) -> list[Path]:
        """Return the images that lie directly in a folder."""
        return [
            Path(entry.path)
            for entry in self._iter_entries(folder)
            if not entry.is_dir() and _is_field(Path(entry.path))
        ]

    def _iter_entries(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        """Yield the entries of a folder that are not hidden, a system's, or links to leave out, in natural order."""
        for entry in sorted(os.scandir(folder), key=lambda entry: natural_sort_key(entry.name)):
            is_hidden = entry.name.startswith(".") and not is_placeholder(entry.name)
            if is_hidden or (is_system_folder(entry.name) and entry.is_dir()):
                continue
            if not entry.is_symlink() or self._should_follow(entry):
                yield entry

    def _note_unread(self, path: Path, parts: tuple[str, ...]) -> bool:
        """Note a file that is no field; return whether it shows something nevertheless."""
        name = "/".join((*parts, path.name))
        if parts and path.name.casefold() in _TABLES:
            self._unread_tables.append(name)
        kind = get_unread_kind(path)
        if kind is not None:
            self._unread[kind].append(name)
        return kind is not None

    def _mark_visited(self, folder: Path) -> bool:
        """Return whether to visit a folder, and remember that it was visited."""
        stat = folder.stat()
        identity = (stat.st_dev, stat.st_ino)
        if identity in self._visited or folder.resolve() in self.skip or is_results(folder):
            return False
        self._visited.add(identity)
        return True

    def _should_follow(self, entry: os.DirEntry[str]) -> bool:
        """Return whether to follow a link; note why not."""
        try:
            target = Path(entry.path).resolve(strict=True)
        except (OSError, RuntimeError):  # a loop of links, or a link to nothing
            self._note_link(self._broken_links, entry)
            return False
        if target.is_dir():  # a single image may well be a link into a hidden store, as git-annex makes them
            shown = target.relative_to(self.root) if target.is_relative_to(self.root) else Path(target.name)
            if is_passed_over(shown / "*"):
                return False
        if self.follow_links or target.is_relative_to(self.root):
            return True
        self._note_link(self._links_outside, entry)
        return False

    def _note_link(self, links: list[str], entry: os.DirEntry[str]) -> None:
        """Note a link that is not followed."""
        if entry.name.casefold() not in _TABLES:  # read even as such links
            path = Path(entry.path)
            links.append(str(path.relative_to(self.root) if path.is_relative_to(self.root) else path))


def _free_id(name: str, slides: Collection[str]) -> str:
    """Return a name that no slide has, with ``~`` at its end if need be."""
    while name in slides:
        name += "~"
    return name


def _is_field(path: Path) -> bool:
    """Return whether a file is an image, and neither a scan nor drawn by another command of wbctool."""
    return is_image(path) and not is_scan(path) and not is_own_figure(path)
