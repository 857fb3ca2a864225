"""What the presets of model servers share: a streaming HTTP client, decoders of lines and events, errors."""
