"""What the image and the unit serve until you put your own in its place: a chat with a model of an Ollama server."""

from ezflow import setting
from stdlib_modules.llm.ollama import Ollama

flow = Ollama(
    setting("OLLAMA_MODEL", "qwen2.5:0.5b"),
    url=setting("OLLAMA_URL", "http://127.0.0.1:11434"),
    system_prompt="You are a friendly assistant. Answer in one to three plain sentences.",
)
