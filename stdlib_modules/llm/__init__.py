"""Language models: text in, the answer as it is written."""
