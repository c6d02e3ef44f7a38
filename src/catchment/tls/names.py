"""What a certificate names: hosts and addresses for a server, one site for a site."""

from __future__ import annotations

import ipaddress
import re

from cryptography import x509
from cryptography.x509.oid import NameOID

from catchment.errors import InvalidField

SITE_URI = "spiffe://catchment/site/"
SITE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9]([-A-Za-z0-9]{0,62})(\.[A-Za-z0-9]([-A-Za-z0-9]{0,62}))*")


def general_name(host: str) -> x509.GeneralName:
    """A host name or IP address as a certificate writes it.

    Raises:
        InvalidField: it is neither.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise InvalidField("name", f"{host!r} is neither a host name (in ASCII) nor an IP address")
    return x509.DNSName(host.lower())


def site_uri(site: str) -> x509.UniformResourceIdentifier:
    """A site's name as its certificate writes it.

    Raises:
        InvalidField: it is no name of a site.
    """
    if not SITE_NAME.fullmatch(site):
        raise InvalidField("site", f"{site!r} is no name of a site: lower case letters, digits and '-'")
    return x509.UniformResourceIdentifier(SITE_URI + site)


def named_site(certificate: x509.Certificate) -> str | None:
    """The one site that a certificate names: by its URI, else by its common name; None when it names none.

    Two URIs or two common names leave it open who is meant, so they name nobody.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    found = [uri.removeprefix(SITE_URI) for uri in uris if uri.startswith(SITE_URI)]
    if not found:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        found = [str(attribute.value) for attribute in common]
    return found[0] if len(found) == 1 and SITE_NAME.fullmatch(found[0]) else None
