"""Speech to text: Audio or Utterance in, str out."""
