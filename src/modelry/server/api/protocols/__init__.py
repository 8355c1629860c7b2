"""The calls of foreign protocols beside inference: health, metadata, statistics, lists, load and unload."""
