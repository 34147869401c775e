"""The HTTP surface. It knows the store and the tokeniser, never slots, tensors or the engine."""
