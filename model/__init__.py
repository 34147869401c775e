"""Fixed-state language models: the state protocol, architectures, weights, tokenisers, sampling.

Never imports the server.
"""
