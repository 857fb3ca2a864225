"""Voice activity: Audio in, one Utterance out for each stretch of speech, at its onset."""
