"""Train a small net with local response normalisation on your own photos, and pack it for `lrp`.

layout.py says what a net looks like, network.py makes it trainable and folds it again, data.py and augment.py bring
the photos, fit.py is the loop, export.py measures the folded net and writes the file. See README.md for the commands.
"""

import os

# Threads that wait for each other go to sleep instead of spinning: on a busy machine that more than doubles the speed.
# OpenMP reads it once, so it has to be there before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
