"""Retraining: a job from a template, its result registered, converted, compared, and rolled out if better."""
