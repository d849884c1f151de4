"""A task's privileges as the engine's security options. Pure."""

from __future__ import annotations

import base64
import binascii

from skep.model.container import CredentialSpec, Privileges
from skep.runtime.errors import Invalid


def security_options(privileges: Privileges) -> list[str]:
    """Returns `HostConfig.SecurityOpt`. Errors: `Invalid` for a seccomp profile that is not base64."""
    found = []
    if privileges.credential_spec is not None:
        found.extend(_credentials(privileges.credential_spec))
    linux = privileges.se_linux_context
    if linux is not None:
        if linux.disable:
            found.append("label=disable")
        values = [(key, getattr(linux, key)) for key in ("user", "role", "level", "type")]
        found.extend(f"label={key}:{value}" for key, value in values if value)
    seccomp = privileges.seccomp
    if seccomp is not None and seccomp.mode == "unconfined":
        found.append("seccomp=unconfined")
    if seccomp is not None and seccomp.mode == "custom":
        found.append("seccomp=" + _profile(seccomp.profile))
    if privileges.app_armor is not None and privileges.app_armor.mode == "disabled":
        found.append("apparmor=unconfined")
    if privileges.no_new_privileges:
        found.append("no-new-privileges=true")
    return found


def _credentials(spec: CredentialSpec) -> list[str]:
    """Only Windows has these: an engine on Linux refuses the option, and with it the task."""
    kinds = (("file", spec.file), ("registry", spec.registry), ("config", spec.config))
    return [f"credentialspec={kind}://{value}" for kind, value in kinds if value]


def _profile(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Invalid(f"the custom seccomp profile is not base64 of a text: {error}") from error
