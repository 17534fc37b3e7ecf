"""Where an item's files rest below the target: pure functions from ids, keys and media types to safe relative paths.

The worker asks for folder and names before any request (only `notebook` waits for the redirect's target). A path
never leaves the target, whatever an id holds: each part is `safe_name`d. Which names are taken at the target is
the ledger's to know: it keeps two apart that differ only by case.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import msgspec

from stacmirror.errors import UsageError
from stacmirror.model import Asset, Item, ItemKey
from stacmirror.names import SUFFIX, TOKEN, encode, extension, fold, guard, hash2, safe_name, with_tail

PRESETS = {
    "item": "{collection}/{item_id}/{asset_key}{ext}",
    # 590,326 items over 256 folders are 2,306 each; three digits would make 4,096 folders of 144, and twice the inodes
    # of small collections. 10 million items are still 39,000 a folder.
    "fanout": "{collection}/{hash2}/{item_id}/{asset_key}{ext}",
    "notebook": "{item_id}/{asset_key}{ext}",
    "bigearthnet": "BigEarthNet-v1.0/{patch}/{patch}_{asset_key}{ext}",
}
TEMPLATE_FIELDS = ("collection", "item_id", "asset_key", "ext", "hash2")

_LITERAL = re.compile(r"[A-Za-z0-9._=+,@ -]*")
_OFFICIAL_KEYS = ("labels", "coordinates", "projection", "tile_source", "acquisition_date")


def make_layout(name: str, template: str) -> Layout:
    """Return the layout called `name`, or the one that `template` spells out.

    Raises: UsageError for an unknown name, a template beside a named layout, and a template that could not keep
            items and assets apart or leaves the target.
    """
    if template and name != "template":
        raise UsageError(
            f"--path-template and --layout {name} contradict each other",
            hint="leave the layout out: a template implies its own, which is called `template`",
        )
    if template:
        return Layout("template", _parse_template(template))
    if name == "notebook":
        return _Notebook(name, _compile(PRESETS[name]))
    if name == "bigearthnet":
        return _BigEarthNet(name, _compile(PRESETS[name]))
    if name in PRESETS:
        return Layout(name, _compile(PRESETS[name]))
    if name == "template":
        raise UsageError("--layout template needs --path-template", hint=f"such as '{PRESETS['item']}'")
    raise UsageError(f"no layout {name!r}", hint=f"there are {', '.join(PRESETS)} and template")


class _Part(msgspec.Struct, frozen=True):
    """One part of a path (between slashes): literals and {fields}, and whether it ends with the extension."""

    pieces: tuple[tuple[str, str], ...]
    has_tail: bool

    def fill(self, values: Mapping[str, str]) -> str:
        stem = "".join(values[field] if field else literal for literal, field in self.pieces)
        return guard(stem, values["ext"] if self.has_tail else "")

    def uses(self, *fields: str) -> bool:
        return any(field in fields for _, field in self.pieces) or (self.has_tail and "ext" in fields)


class Layout:
    """A template at work: its leading parts that hold no asset are the item's folder, the others the asset's name."""

    one_to_one: bool = False
    """A label's folder also holds its source: fit only where each label has one source and each source one label."""
    names_from_target: bool = False
    """Names follow from where a link leads, so they are "" until then."""
    derives: bool = False
    """Files are made from a walked item's small assets: whoever makes them again needs all of those."""

    def __init__(self, name: str, parts: Sequence[_Part]) -> None:
        self.name = name
        at = next(at for at, part in enumerate(parts) if part.uses("asset_key", "ext") or at == len(parts) - 1)
        self._folder_parts = tuple(parts[:at])
        self._name_parts = tuple(parts[at:])
        # Two collections may have items of one id, so a folder is an item's own only if it names both.
        own = [field for field in ("collection", "item_id") if any(part.uses(field) for part in self._folder_parts)]
        self._exclusive = self.one_to_one or len(own) == 2
        self._names_need_item = any(part.uses("collection", "item_id", "hash2", "patch") for part in self._name_parts)
        self._needs_hash = any(part.uses("hash2") for part in parts)
        # Items of one collection have the same keys and types: their names are made once.
        self._shared_names = lru_cache(maxsize=512)(self._fill_names)

    def folder(self, key: ItemKey, walked: ItemKey) -> tuple[str, bool]:
        """Return the item's folder relative to the target, and whether nothing but this item's files belongs there.

        `walked` is the item that led here: itself, or the label that names it as its source. Items whose folders are
        equal or differ by case only are the ledger's to see and to part.
        """
        values = self._item_values(walked if self.one_to_one else key)
        return "/".join(part.fill(values) for part in self._folder_parts), self._exclusive

    def names(self, item: Item, assets: Sequence[Asset]) -> dict[str, str]:
        """Return the name of each of `assets`, relative to the folder; it may contain `/`.

        Names that differ by case only get a hash tail, all but the first in the order of keys. All of the item's assets
        count for that, whichever are asked for, so that neither filters nor the listing's order change a name.
        """
        signature = tuple((asset.key, self._extension(asset)) for asset in item.assets or assets)
        if self._names_need_item:
            found = self._fill_names(signature, self._item_values(item.key))
        else:
            found = self._shared_names(signature)
        return {asset.key: found[asset.key] for asset in assets}

    def name_for_target(self, url: str, key: str, taken: Collection[str]) -> str:
        """Return the name of the asset `key` whose link leads to `url`. Only where `names_from_target`."""
        raise RuntimeError(f"names of the layout {self.name} do not follow from a redirect")

    def derived(self, item: Item, label_bytes: Mapping[str, bytes]) -> list[tuple[str, str, bytes]]:
        """Return files that are written, not fetched: (key with `@`, name, content). Called for the walked item.

        `label_bytes` has the contents of the item's small assets by key.
        """
        return []

    def _extension(self, asset: Asset) -> str:
        return extension(asset)

    def _item_values(self, key: ItemKey) -> dict[str, str]:
        values = {"collection": encode(key.collection), "item_id": encode(key.id)}
        if self._needs_hash:
            values["hash2"] = hash2(key.id)
        return values

    def _fill_names(
        self, signature: tuple[tuple[str, str], ...], item_values: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        values = dict(item_values or {})
        found: dict[str, str] = {}
        taken: set[str] = set()
        for key, ext in sorted(set(signature)):
            values["asset_key"], values["ext"] = encode(key), ext
            name = "/".join(part.fill(values) for part in self._name_parts)
            if fold(name) in taken:
                stem = name[: len(name) - len(ext)] if ext and name.endswith(ext) else name
                before, slash, last = stem.rpartition("/")
                name = f"{before}{slash}{with_tail(last, name[len(stem) :], key)}"
            taken.add(fold(name))
            found[key] = name
        return found


class _Notebook(Layout):
    """The notebook's: all files of a label and its source under the label's id, named as where they come from."""

    one_to_one = True
    names_from_target = True

    def names(self, item: Item, assets: Sequence[Asset]) -> dict[str, str]:
        return {asset.key: "" for asset in assets}

    def name_for_target(self, url: str, key: str, taken: Collection[str]) -> str:
        """Return the target's own file name; with a tail made of `key` where `taken` has it in any case.

        A target without a name, or whose name is a token (the link itself answered), is named by its key.
        """
        path = url if url.startswith("s3://") else re.split(r"[?#]", url, maxsplit=1)[0]
        base = unquote(path.partition("://")[2].partition("/")[2].rpartition("/")[2], errors="surrogateescape")
        plain = safe_name(key if not base or TOKEN.fullmatch(base) else base)
        match = SUFFIX.search(plain)
        suffix = match[1] if match else ""
        folded = {fold(other) for other in taken}
        name, salt = plain, key
        while fold(name) in folded:
            name = with_tail(plain.removesuffix(suffix), suffix, salt)
            salt += "\0"
        return name


class _BigEarthNet(Layout):
    """What torchgeo's BigEarthNet reads: per patch all `*.tif` in sorted order, and the first `*.json`.

    So no other `.json` may stand in a patch's folder, and no label may be called `.tif`, whatever its media type says.
    Source: torchgeo/datasets/bigearthnet.py; the BigEarthNet-S2-v1.0 archive.
    """

    one_to_one = True
    derives = True

    def derived(self, item: Item, label_bytes: Mapping[str, bytes]) -> list[tuple[str, str, bytes]]:
        metadata = next(filter(None, map(_official_metadata, label_bytes.values())), None)
        if metadata is None:
            labels = item.properties.get("labels")
            if not isinstance(labels, (list, tuple)):
                return []
            when = item.properties.get("datetime")
            date = when[:19].replace("T", " ") if isinstance(when, str) else None
            metadata = {"labels": list(labels), "acquisition_date": date}
        name = guard(f"{self._item_values(item.key)['patch']}_labels_metadata", ".json")
        return [("@labels_metadata", name, msgspec.json.encode(metadata))]

    def _extension(self, asset: Asset) -> str:
        if "label" in asset.key.lower() or "labels" in asset.roles:
            return ".geojson"
        ext = extension(asset) or ".tif"
        return ".geojson" if ext == ".json" else ext

    def _item_values(self, key: ItemKey) -> dict[str, str]:
        patch = key.id.removeprefix(f"{key.collection}_") or key.id
        return {"patch": encode(patch)}


def _official_metadata(content: bytes) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("labels"), list):
        return None
    return {key: document[key] for key in _OFFICIAL_KEYS if key in document}


def _parse_template(template: str) -> tuple[_Part, ...]:
    try:
        parts = _compile(template, TEMPLATE_FIELDS)
    except ValueError as error:
        raise UsageError(f"--path-template {template!r}: {error}", hint=f"such as '{PRESETS['item']}'") from None
    for field in ("item_id", "asset_key"):
        if not any(part.uses(field) for part in parts):
            raise UsageError(
                f"--path-template {template!r} has no {{{field}}}: files would overwrite each other",
                hint=f"such as '{PRESETS['item']}'",
            )
    return parts


def _compile(template: str, fields: Collection[str] = (*TEMPLATE_FIELDS, "patch")) -> tuple[_Part, ...]:
    if template.startswith(("/", "~")):
        raise ValueError("the path must be relative to the target")
    return tuple(_compile_part(part, fields) for part in template.split("/"))


def _compile_part(text: str, fields: Collection[str]) -> _Part:
    if not text:
        raise ValueError("a part between slashes is empty")
    pieces: list[tuple[str, str]] = []
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"the braces do not match ({error})") from None
    for literal, field, spec, conversion in parsed:
        if not _LITERAL.fullmatch(literal):
            raise ValueError(f"{literal!r} has characters that a portable name cannot have")
        if literal:
            pieces.append((literal, ""))
        if field is None:
            continue
        if field not in fields or spec or conversion:
            shown = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise ValueError(f"no field {{{shown}}}; there are {', '.join(TEMPLATE_FIELDS)}")
        pieces.append(("", field))
    if not any(field for _, field in pieces) and guard(text, "") != text:
        raise ValueError(f"the part {text!r} leaves the target, or is reserved")
    has_tail = pieces[-1] == ("", "ext")
    return _Part(tuple(pieces[:-1] if has_tail else pieces), has_tail)
