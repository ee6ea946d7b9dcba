"""Shapes of models: their config.json, as they were published, without weights."""
