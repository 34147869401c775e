"""What OpenAI-style clients may send."""
