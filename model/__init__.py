"""Fixed-state language models: the state protocol, the architectures, weights, tokenisers, sampling. Never imports the server."""
