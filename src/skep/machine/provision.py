"""Makes a host a machine: asks it what it has, has `plan` decide, carries that out. Can be run again at any
time."""

from __future__ import annotations

from collections.abc import Callable

from skep.machine import certs, daemon_json, plan, skepd_plan
from skep.machine.authority import authority, own_authorities, write_certificates
from skep.machine.carrying import carry_out
from skep.machine.certs import Pair
from skep.machine.drivers import Say
from skep.machine.facts import PROBE, MachineFacts, read_facts
from skep.machine.plan import InstallByScript, InstallPackages, Step
from skep.machine.record import Machine
from skep.machine.remote import write
from skep.machine.skepd_install import SkepdSource, install_skepd
from skep.machine.ssh import SshHost, connected, wait_reachable
from skep.machine.store import MachineStore
from skep.runtime.errors import Unavailable

CLOCK_S = 60.0  # what a host's clock may differ before it is said; certificates allow for an hour


async def provision(
    store: MachineStore,
    machine: Machine,
    organization: str,
    clock: Callable[[], float],
    source: SkepdSource,
    say: Say,
) -> None:
    """Makes the host have an engine, or skepd before it, that listens by mutual TLS, and the machine have
    what clients need.

    What contradicts it on the host is said before anything is changed there. Errors: `Denied` (not let in,
    another host key), `Conflict`, `Unsupported`, `Invalid`, `Unavailable`.
    """
    say("Waiting for SSH to be available...")
    pinned = store.host_key(machine.name)
    await wait_reachable(machine.ssh, pinned, say)
    async with connected(machine.ssh, pinned) as host:
        if pinned is None:
            store.pin_host_key(machine.name, host.host_key)
            say(f"The host's SSH key is {host.fingerprint}: no other is taken from now on")
        say("Detecting the provisioner...")
        facts = await ask(host)
        now = clock()
        _say_clock(facts, now, say)
        preparation = _decide_preparation(store, machine, facts)
        say(f"Provisioning with {_provisioner(facts)}({facts.manager})...")
        for step in preparation:
            await carry_out(host, step, say)
        if any(isinstance(step, InstallPackages | InstallByScript) for step in preparation):
            facts = await ask(host)
            if machine.skepd:
                skepd_plan.check_prepared(facts)
        configuration = plan.decide_configuration(facts, machine.engine, skepd=machine.skepd)
        await _give_certificates(host, store, machine, organization, now, say)
        say("Setting Docker configuration on the remote daemon...")
        await _configure(host, facts, configuration, say)
        if machine.skepd:
            await install_skepd(host, facts, machine, source, say)


def _decide_preparation(store: MachineStore, machine: Machine, facts: MachineFacts) -> tuple[Step, ...]:
    """Returns what comes first; looks at all else that can be known to fail before anything is changed."""
    if not machine.is_whole:
        plan.check_authority(facts, own_authorities(store))
    more = None
    if machine.skepd:
        skepd_plan.check_host(facts)
        more = skepd_plan.packages(facts)
    else:
        skepd_plan.check_no_skepd(facts)
    preparation = plan.decide_preparation(facts, machine.name, more, machine.engine.install_url)
    if facts.dockerd:
        plan.decide_configuration(facts, machine.engine, skepd=machine.skepd)
    return preparation


async def _configure(host: SshHost, facts: MachineFacts, configuration: tuple[Step, ...], say: Say) -> None:
    """Has the engine run by the configuration; where it does not, by what was there before: its containers
    need not be down until somebody has found what it does not take. Errors: `Unavailable`."""
    try:
        for step in configuration:
            await carry_out(host, step, say)
    except Unavailable as error:
        former = plan.decide_return(facts, configuration)
        if not former:
            raise
        say("Having the engine run as before, for it does not by that...")
        try:
            for step in former:
                await carry_out(host, step, say)
        except Unavailable as again:
            raise Unavailable(f"{error}; nor by the files of before: {again}") from error
        raise Unavailable(f"{error}; it runs by the files of before again") from error


async def ask(host: SshHost) -> MachineFacts:
    """Errors: `Invalid`, `Unavailable`."""
    said = await host.run_root(PROBE)
    if said.status != 0:
        raise Unavailable(f"the host does not say what it has: {said.said}")
    return read_facts(said.text)


async def _give_certificates(
    host: SshHost, store: MachineStore, machine: Machine, organization: str, now: float, say: Say
) -> None:
    say("Copying certs to the local machine directory...")
    own = authority(store, organization, now)
    names = certs.server_names(machine.ssh.address, machine.engine.tls_sans)
    server = certs.new_server(own.ca, organization, names, now)
    write_certificates(store, machine.name, own, server)
    say("Copying certs to the remote machine...")
    await _write_server(host, own.trusted, server)


async def _write_server(host: SshHost, trusted: bytes, server: Pair) -> None:
    await write(host, daemon_json.KEY, server.key_pem, mode=0o600)
    await write(host, daemon_json.CERT, server.certificate_pem, mode=0o644)
    await write(host, daemon_json.CA, trusted, mode=0o644)


def _provisioner(facts: MachineFacts) -> str:
    """Returns the name of what the host is; one that has its engine already may be any."""
    return next((each for each in facts.release_ids if each in plan.RECOGNISED), "") or facts.release


def _say_clock(facts: MachineFacts, now: float, say: Say) -> None:
    off_s = facts.clock_s - now
    if abs(off_s) > CLOCK_S:
        say(
            f"the host's clock is {abs(off_s):.0f} s {'ahead' if off_s > 0 else 'behind'}:"
            " certificates depend on it"
        )
