#!/usr/bin/env bash
# uvloop's call_at and call_later give a plain Handle, with no when(), for a time less than half a millisecond away.
#
# Versions: uvloop 0.23.0, CPython 3 of this machine.
# Question: who keeps the handle of loop.call_at(t) asks it later for when(), to see whether another time is earlier. Its
#           annotation, and asyncio's documentation, say TimerHandle. Is it one whatever t is?
# Guess:    yes, as with asyncio's own loop, also for times that have passed.
# Observed: with uvloop a time that has passed, or is up to half a millisecond away, gives a Handle: no when(), so
#           AttributeError, in whichever call comes next, and only where the machine was late. From 0.6 ms on it is a
#           TimerHandle. cancel() and cancelled() work on both.
# To do:    keep the time beside the handle.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
python3 -m venv "$work/venv" >/dev/null 2>&1 || cannot "python3 has no venv"
"$work/venv/bin/pip" install --quiet uvloop==0.23.0 >"$work/log" 2>&1 || { tail -n 3 "$work/log" >&2; cannot "uvloop cannot be installed"; }
cat >"$work/ask.py" <<'ASK'
import asyncio, sys

async def asked(delay_s: float) -> str:
    loop = asyncio.get_running_loop()
    handle = loop.call_at(loop.time() + delay_s, lambda: None)
    return f"{type(handle).__name__}, {'when' if hasattr(handle, 'when') else 'no when'}"

if sys.argv[1] == "uvloop":
    import uvloop
    run = uvloop.run
else:
    run = asyncio.run
print(run(asked(float(sys.argv[2]))))
ASK
ask() { "$work/venv/bin/python" "$work/ask.py" "$@"; }
for delay in -1 0 0.0003 0.01; do
    same "asyncio's loop, a time in $delay s" "TimerHandle, when" "$(ask asyncio $delay)"
done
for delay in -1 0 0.0003; do
    same "uvloop, a time in $delay s" "Handle, no when" "$(ask uvloop $delay)"
done
same "uvloop, a time in 0.01 s" "TimerHandle, when" "$(ask uvloop 0.01)"
