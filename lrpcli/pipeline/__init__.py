"""A shard of images and settings in, finished files and journal lines out."""
