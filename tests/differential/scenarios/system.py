"""What belongs to the engine and passes through a manager: volumes, disk use, registries, images."""

from __future__ import annotations

from tests.differential.scenario import Call, delete, get, post, scenario

NOBODY = "localhost:1"
"""A registry that does not answer."""

SCENARIOS = [
    scenario(
        "volumes by the API",
        post("/volumes/create", {"Name": "one", "Labels": {"a": "b"}, "DriverOpts": {}}),
        get("/volumes/one", "Name", "Driver", "Scope", "Labels"),
        post("/volumes/create", {"Name": "a b"}),
        post("/volumes/create", {"Name": "two", "Driver": "nonsense"}),
        get('/volumes?filters={"name":["one"]}', "Warnings"),
        get('/volumes?filters={"color":["red"]}'),
        Call("PUT", "/volumes/one?version=1", {"Spec": {"Availability": "drain"}}),
        post("/volumes/create", {"Name": "one", "ClusterVolumeSpec": {"AccessMode": {"Scope": "single"}}}),
        post("/volumes/create", "x"),
        get("/volumes/nobody"),
        delete("/volumes/nobody"),
        delete("/volumes/nobody?force=1"),
        delete("/volumes/one"),
        post('/volumes/prune?filters={"label":["none"]}'),
    ),
    scenario(
        "volume commands",
        "volume create -l a=b one",
        "volume create two",
        *(
            f"volume ls --format '{{{{.Name}}}} {{{{.Driver}}}}' --filter {text}"
            for text in ("name=o", "label=a", "dangling=true", "driver=local", "color=red")
        ),
        "volume rm one nobody",
        "volume rm two",
    ),
    scenario(
        "disk use",
        # Containers are another matter: Docker keeps those of tasks for a while.
        Call("GET", "/system/df", only=("BuildCache",)),
        Call("GET", "/system/df?type=container", only=("Volumes", "BuildCache")),
        "system df --format {{.Type}}",
    ),
    scenario(
        "registries that do not answer",
        get("/distribution/UPPER/json"),
        get(f"/distribution/{NOBODY}/x:1/json"),
        post("/auth", {"username": "a", "password": "b", "serveraddress": NOBODY}),
        post("/auth", "x"),
        Call("POST", f"/images/create?fromImage={NOBODY}/x&tag=1"),
        f"pull {NOBODY}/x:1",
        f"service create --quiet -d --name web --replicas 0 {NOBODY}/x:1",
    ),
]
