"""Services whose tasks cannot begin (no image, no directory), how often it is tried, and how they are repaired."""

from __future__ import annotations

import time

from tests.differential.scenario import Py, Until, get, scenario, settle

CREATE = "service create -q -d --no-resolve-image --stop-signal KILL --restart-delay 50s --name web"
UPDATE = "service update -q -d --no-resolve-image --update-monitor 200ms"
MISSING = "no-such-image:1"
SHOWN = "service ps --no-trunc --format '{{.DesiredState}} {{.CurrentState}} {{.Error}}' web"
WANTED = "service ps -f desired-state=running -f desired-state=ready --format '{{.DesiredState}}' web"
STATES = "service ps --format '{{.Image}} {{.DesiredState}} {{.CurrentState}}' web"
STATE = get("/services/web", "UpdateStatus.State", "UpdateStatus.Message")
A_MOMENT = Py("a moment passes", lambda client: time.sleep(1.0))

SCENARIOS = [
    scenario(
        "a missing image is tried once a delay and its task stays wanted",
        f"{CREATE} --replicas 2 {MISSING}",
        settle("web", rejected=4),
        A_MOMENT,
        SHOWN,
        WANTED,
        "service ls",
        "service scale -d web=1",
        A_MOMENT,
        WANTED,
    ),
    scenario(
        "a missing image of a global service",
        f"{CREATE} --mode global {MISSING}",
        settle("web", rejected=2),
        A_MOMENT,
        SHOWN,
    ),
    scenario(
        "a missing image of a job",
        f"{CREATE} --mode replicated-job {MISSING}",
        settle("web", rejected=2),
        A_MOMENT,
        SHOWN,
    ),
    scenario(
        "a missing directory to bind",
        f"{CREATE} --mount type=bind,source=/no/such,target=/x $IMAGE sleep 1d",
        settle("web", rejected=2),
        A_MOMENT,
        SHOWN,
    ),
    scenario(
        "attempts come one per delay",
        f"{CREATE} {MISSING}".replace("50s", "3s"),
        settle("web", rejected=4),
        A_MOMENT,
        SHOWN,
        slow=True,
    ),
    scenario(
        "the repair of a service that never ran is an update",
        f"{CREATE} --replicas 2 {MISSING}",
        settle("web", rejected=4),
        f"{UPDATE} --image $IMAGE --args 'sleep 1d' web",
        Until("/services/web", "UpdateStatus.State", "completed"),
        STATE,
        STATES,
    ),
    scenario(
        "the repair of a global service that never ran is an update",
        f"{CREATE} --mode global {MISSING}",
        settle("web", rejected=2),
        f"{UPDATE} --image $IMAGE --args 'sleep 1d' web",
        Until("/services/web", "UpdateStatus.State", "completed"),
        STATE,
    ),
    scenario(
        "the repair of an update that failed is an update",
        f"{CREATE} --replicas 2 $IMAGE sleep 1d",
        settle("web", running=2),
        f"{UPDATE} --image {MISSING} web",
        Until("/services/web", "UpdateStatus.State", "paused"),
        settle("web", running=1, rejected=2),
        A_MOMENT,
        STATES,
        f"{UPDATE} --image $IMAGE web",
        Until("/services/web", "UpdateStatus.State", "completed"),
        STATE,
        A_MOMENT,
        STATES,
        WANTED,
    ),
    scenario(
        "a change of labels after an update that failed is no update",
        f"{CREATE} $IMAGE sleep 1d",
        settle("web", running=1),
        f"{UPDATE} --image {MISSING} web",
        Until("/services/web", "UpdateStatus.State", "paused"),
        settle("web", running=0, rejected=2),
        A_MOMENT,
        f"{UPDATE} --label-add a=1 web",
        A_MOMENT,
        get("/services/web", "UpdateStatus"),
    ),
    scenario(
        "a global service's node that fits again has its task at once",
        "node update --label-add zone=1 $NODE",
        f"{CREATE} --mode global --constraint node.labels.zone==1 $IMAGE sleep 1d",
        settle("web", running=1),
        "node update --label-rm zone $NODE",
        settle("web", running=0, rejected=1),
        "node update --label-add zone=1 $NODE",
        settle("web", running=1, rejected=1),
        SHOWN,
        "node update --label-rm zone $NODE",
    ),
]
