"""Who is asking: bearer keys, of which only the sha256 is configured, each naming a tenant.

With no key configured everybody is the tenant "local"; `Settings.check_exposure` keeps that off the network.
A key never reaches a log, an error or a metric.
"""

import hmac
from collections.abc import Mapping

from server.access import digest_of
from server.errors import Unauthorized

LOCAL = "local"


class Keyring:
    """The configured keys. tenants: sha256 in lower-case hex → tenant; empty: no key is asked for."""

    def __init__(self, tenants: Mapping[str, str]) -> None:
        self._tenants = tuple((digest.encode(), tenant) for digest, tenant in tenants.items())

    def tenant(self, authorization: str | None) -> str:
        """The tenant of an `Authorization` header. Raises Unauthorized.

        Every configured hash is compared, each in constant time, so the time taken says nothing about a key.
        """
        if not self._tenants:
            return LOCAL
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("An API key is required: send Authorization: Bearer <key>.")
        digest = digest_of(token.strip()).encode()
        found = None
        for known, tenant in self._tenants:
            if hmac.compare_digest(known, digest):
                found = tenant
        if found is None:
            raise Unauthorized("This API key is not known.")
        return found
