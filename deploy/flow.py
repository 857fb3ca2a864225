"""The flow that the image and the unit serve until you put your own in its place: a chat with an Ollama server."""

import os

from stdlib_modules.llm.ollama import Ollama

flow = Ollama(os.environ.get("OLLAMA_MODEL", "qwen2.5:0.5b"), url=os.environ.get("OLLAMA_URL", "http://127.0.0.1:11434"))
