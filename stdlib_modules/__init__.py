"""Presets: one model, server or text step a file; each needs only the public names of ezflow."""
