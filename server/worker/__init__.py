"""The worker: claims turns, keeps session states, runs the engine, commits."""
