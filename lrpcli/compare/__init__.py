"""The work stage of `lrp compare`: maps of one image that were made in several ways, side by side."""
