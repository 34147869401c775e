"""The session store on Redis or Valkey: bytes and ids only, no tensors."""
