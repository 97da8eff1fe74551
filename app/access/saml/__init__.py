"""The university's log-in: SAML 2.0 web browser single sign-on and logout, with us as the service provider.

Only this package knows python3-saml, lxml and xmlsec. A message is untrusted until `response` or `logout` has checked
it.
"""

from .key_pairs import KeyPair, configured_keys, own_keys
from .metadata import IdentityProvider
from .refused import Refused
from .university import Begun, Finished, University, own_page

__all__ = [
    "Begun",
    "Finished",
    "IdentityProvider",
    "KeyPair",
    "Refused",
    "University",
    "configured_keys",
    "own_keys",
    "own_page",
]
