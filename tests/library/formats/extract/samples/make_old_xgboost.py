"""Makes xgboost_binary/, in the format that XGBoost wrote before JSON.

Run: python make_old_xgboost.py, with xgboost 1.7.6.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import xgboost

warnings.simplefilter("ignore")
HERE = Path(__file__).parent / "xgboost_binary"
HERE.mkdir(exist_ok=True)
rng = np.random.default_rng(0)
features = rng.normal(size=(40, 6))
data = xgboost.DMatrix(features, features[:, 0] > 0)
xgboost.train({"objective": "binary:logistic", "max_depth": 2}, data, 2).save_model(HERE / "model.bin")
