"""The endpoints that OpenAI-style clients know: models, chat completions, completions."""
