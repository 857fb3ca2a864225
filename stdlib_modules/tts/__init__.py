"""Text to speech: str in, Audio out."""
