"""The SDK, written once; `_sync` is generated from here by `scripts/unasync.py`."""
