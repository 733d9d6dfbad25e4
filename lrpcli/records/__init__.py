"""What a run remembers: records of images, journals, resuming, whole files."""
