"""Ways to open a URL, one file a kind, behind `interfaces.Transport`; `router` joins them.

Each foreign client has its one home here: aiohttp in `http`, aiobotocore in `aws`.
"""
