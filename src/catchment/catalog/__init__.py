"""The model manager: versions of models, how their bytes come in, where they came from, who did what."""
