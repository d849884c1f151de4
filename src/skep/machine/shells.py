"""What sets a docker client's environment in each shell, and takes it back. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from skep.runtime.errors import Invalid

SHELLS = ("sh", "bash", "zsh", "fish", "powershell", "cmd", "tcsh", "emacs")
VARIABLES = ("DOCKER_TLS_VERIFY", "DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_MACHINE_NAME")


def shell_of(path: str) -> str:
    """Returns which shell $SHELL is; one of sh's family where it is empty or none that is known."""
    name = path.replace("\\", "/").rpartition("/")[2].removesuffix(".exe")
    return {"csh": "tcsh", "pwsh": "powershell"}.get(name, name if name in SHELLS else "sh")


def set_lines(shell: str, values: Mapping[str, str]) -> list[str]:
    """Returns what the shell is to evaluate. Errors: `Invalid`, for a value that it cannot take."""
    return [_set(shell, name, value) for name, value in values.items()]


def unset_lines(shell: str, names: tuple[str, ...]) -> list[str]:
    return [_unset(shell, name) for name in names]


def hint(shell: str, command: str) -> list[str]:
    """Returns the comment that says how to evaluate all of it."""
    how = {
        "fish": f"# eval ({command})",
        "powershell": f"# & {command} | Invoke-Expression",
        "cmd": f"REM     @FOR /f \"tokens=*\" %i IN ('{command}') DO @%i",
        "tcsh": f"# eval `{command}`",
        "emacs": f';; (with-temp-buffer (shell-command "{command}" (current-buffer)) (eval-buffer))',
    }.get(shell, f'# eval "$({command})"')
    begin = {"cmd": "REM", "emacs": ";;"}.get(shell, "#")
    return [f"{begin} Run this command to configure your shell: ", how]


def no_proxy(environment: Mapping[str, str], address: str, *, unset: bool) -> tuple[str, str]:
    """Returns the variable by which proxies are passed by, and its value with the address in it, or
    without."""
    name = "no_proxy" if environment.get("no_proxy") and not environment.get("NO_PROXY") else "NO_PROXY"
    there = [each for each in environment.get(name, "").split(",") if each and each != address]
    return name, ",".join(there if unset else [*there, address])


def _set(shell: str, name: str, value: str) -> str:
    if any(not each.isprintable() for each in value):
        raise Invalid(f"{name} would have a control character in it")
    if shell == "fish":
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
        return f'set -gx {name} "{escaped}";'
    if shell == "powershell":
        # A quote of the other kind within one kind needs no care but its own.
        escaped = value.replace("`", "``").replace('"', '`"').replace("$", "`$")
        return f'$Env:{name} = "{escaped}"'
    if shell == "cmd":
        if any(each in value for each in '%"&|<>^!'):
            raise Invalid(f"{name}={value}: cmd cannot take that")
        return f"SET {name}={value}"
    if shell == "emacs":
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'(setenv "{name}" "{escaped}")'
    if shell == "tcsh":
        quoted = value.replace("'", "'\\''").replace("!", "\\!")
        return f"setenv {name} '{quoted}';"
    for each in '\\"$`':
        value = value.replace(each, f"\\{each}")
    return f'export {name}="{value}"'


def _unset(shell: str, name: str) -> str:
    return {
        "fish": f"set -e {name};",
        "powershell": f"Remove-Item Env:\\{name}",
        "cmd": f"SET {name}=",
        "emacs": f'(setenv "{name}" nil)',
        "tcsh": f"unsetenv {name};",
    }.get(shell, f"unset {name}")
