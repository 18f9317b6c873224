"""The studies of pretraining."""
