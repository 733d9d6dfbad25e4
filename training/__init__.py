"""Train a small net with local response normalisation on your own photos, and pack it for `lrp`.

layout.py says what a net looks like, network.py makes it trainable and folds it again, data.py and augment.py bring
the photos, fit.py is the loop, export.py measures the folded net and writes the file. See README.md for the commands.
"""
