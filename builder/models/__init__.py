"""Models: training and loading of generator, segmenter and retriever."""

import os

# Idle OpenMP threads sleep instead of spinning: on a shared machine, spinning makes a
# training step ten times slower. Read by OpenMP when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
