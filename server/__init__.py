"""The inference server: api, engine, worker and session store."""
