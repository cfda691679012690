"""Caption backends: what turns a tile into sentences, behind one small interface."""

import builder.models  # noqa: F401 - how idle threads wait, set before torch is imported
