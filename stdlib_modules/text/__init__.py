"""What happens to text between a language model and a speech synthesis."""
