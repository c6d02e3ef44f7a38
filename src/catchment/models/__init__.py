"""Model weights: tensor files, their signatures, and how initial models of other formats are read."""
