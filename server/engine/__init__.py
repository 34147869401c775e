"""The engine: slots, scheduling and the tick. It knows the model and nothing of text, Redis or HTTP."""
