"""The array types of images and embeddings, defined once for all rooms above."""

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float32]  # (d,), of unit length
Rows = NDArray[np.float32]  # (n, d)
Pixels = NDArray[np.uint8]  # (height, width, 3), or (n, height, width, 3)
