"""Attack one arm and seed by relearning on FIT rows; score it on TEST rows along the way."""

from pathlib import Path

import pandas as pd
