"""Sources known by name: the root of each API, and the settings that suit it. `stacmirror sources` lists them.

A profile is a set of settings, by their keys, below all that a user gives; `[source.NAME]` in a TOML file adds one, or
changes one. Where a figure is not a server's own documents' or issue tracker's, its notes say so.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Profile(Struct, frozen=True):
    """One source: what it is, and its settings as typed. `notes` say why, for `stacmirror sources`."""

    title: str
    settings: Mapping[str, object]
    notes: str = ""


PROFILES: Mapping[str, Profile] = {
    "planetary-computer": Profile(
        "Microsoft Planetary Computer",
        {
            "api_url": "https://planetarycomputer.microsoft.com/api/stac/v1",
            "page_size": 250,
            "page_size_floor": 10,
            "auth": ("*.blob.core.windows.net=planetary-computer",),
        },
        "assets are signed by a token a container, renewed before it ends",
    ),
    "earth-search": Profile(
        "Earth Search v1 (Element 84, AWS)",
        {"api_url": "https://earth-search.aws.element84.com/v1", "page_size": 100, "page_size_floor": 5},
        "pages above about 250 items are refused by its gateway (500, 502)",
    ),
    "cdse": Profile(
        "Copernicus Data Space Ecosystem",
        {
            "api_url": "https://stac.dataspace.copernicus.eu/v1",
            "page_size": 100,
            "per_host": 4,
            "workers": 8,
            "rate": "30/s",
            "alternate": ("https",),
            "auth": (
                "*.dataspace.copernicus.eu=oauth2-password:cdse-public@"
                "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token",
            ),
        },
        "4 connections at once, 2,000 requests a minute; assets need STACMIRROR_USERNAME and STACMIRROR_PASSWORD",
    ),
    "cmr-lpcloud": Profile(
        "NASA CMR-STAC, LPCLOUD",
        {
            "api_url": "https://cmr.earthdata.nasa.gov/stac/LPCLOUD",
            "page_size": 100,
            "per_host": 16,
            "auth": (
                "*.earthdata.nasa.gov=bearer:env:EARTHDATA_TOKEN",
                "*.earthdatacloud.nasa.gov=bearer:env:EARTHDATA_TOKEN",
            ),
        },
        "pages hold 100 items at most; other providers: --api-url .../stac/PROVIDER; assets need EARTHDATA_TOKEN",
    ),
    "usgs-landsat": Profile(
        "USGS LandsatLook",
        {
            "api_url": "https://landsatlook.usgs.gov/stac-server",
            "page_size": 100,
            "page_size_floor": 10,
            "alternate": ("s3",),
            "s3_region": "us-west-2",
        },
        "assets by their s3 alternates, a requester-pays bucket: --request-payer",
    ),
    "source-coop": Profile(
        "Source Cooperative", {}, "static: give a catalog's address, https://data.source.coop/ACCOUNT/PRODUCT/..."
    ),
}


def profile_settings(source: str) -> Mapping[str, object]:
    """Return the settings that suit a SOURCE as typed; none for one that is no profile's."""
    profile = PROFILES.get(source.partition(":")[0]) if ":" in source else None
    return profile.settings if profile is not None else {}
