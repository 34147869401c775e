"""Training and evaluation: what makes a memory recall, and what shows whether it does."""
