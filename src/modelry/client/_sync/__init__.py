# Generated from ../_async/__init__.py by scripts/unasync.py; edit that file.
"""The blocking SDK: every module is the twin of one that awaits."""
