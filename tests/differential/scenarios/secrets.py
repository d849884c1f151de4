"""Secrets and configs: the same commands and calls for both, then what differs."""

from __future__ import annotations

from tests.differential.scenario import Py, Scenario, Update, delete, get, post, scenario, settle

RUN = "service create -d --no-resolve-image --stop-signal KILL --name web"


def kept(kind: str) -> list[Scenario]:
    """Scenarios of `secret` or `config`."""
    path = f"/{kind}s"
    other = {"Name": "made", "Labels": {"a": "b"}, "Data": "aGVsbG8="}
    return [
        scenario(
            f"{kind} create, ls, inspect, rm",
            f"{kind} create one $DIR/one",
            f"{kind} create -l color=blue -l size two $DIR/one",
            f"{kind} ls",
            f"{kind} ls -q",
            # Not .Labels: the client shows those of one in any order.
            f'{kind} ls --format \'{{{{.ID}}}} {{{{.Name}}}} {{{{.Label "color"}}}} {{{{.Label "size"}}}}\'',
            f"{kind} ls --format json --filter name=one",
            f"{kind} inspect one",
            f"{kind} inspect two",
            f"{kind} inspect --pretty two",
            f"{kind} inspect -f '{{{{.Spec.Name}}}} {{{{.Spec.Labels}}}}' one two",
            f"{kind} inspect one nobody",
            f"{kind} rm one nobody",
            f"{kind} rm nobody",
            f"{kind} ls -q",
            files={"one": "hello"},
        ),
        scenario(
            f"{kind} ls filtered",
            f"{kind} create -l color=blue apple $DIR/one",
            f"{kind} create -l color=red app $DIR/one",
            f"{kind} create -l size=1 pear $DIR/one",
            *(
                f"{kind} ls --format {{{{.Name}}}} --filter {text}"
                for text in ("name=app", "name=pea", "label=color", "label=color=red", "id=nobody", "x=y")
            ),
            get(f'{path}?filters={{"name":["app"]}}'),
            get(f'{path}?filters={{"names":["app"]}}'),
            get(f'{path}?filters={{"label":{{"color=blue":true}}}}'),
            get(f"{path}?filters={{"),
            files={"one": "x"},
        ),
        scenario(
            f"{kind} data that is no base64",
            *(
                post(f"{path}/create", {"Name": "x", "Data": data})
                for data in ("x", "AAAA=", "AA=A", "AA==A", "AAAA AAAA", "AAA\nA!", "\u00e9", "nonsense!")
            ),
            post(f"{path}/create", {"Name": "lines", "Data": "aGVs\nbG8="}),
            get(f"{path}/lines", "Spec"),
        ),
        scenario(
            f"{kind} names and sizes",
            f"{kind} create one $DIR/one",
            f"{kind} create one $DIR/one",
            f"{kind} create ONE $DIR/one",
            f"{kind} create .x $DIR/one",
            f"{kind} create x.y-z_1 $DIR/one",
            f"{kind} create {'n' * 65} $DIR/one",
            f"{kind} create {'n' * 64} $DIR/one",
            f"{kind} create empty $DIR/empty",
            f"{kind} create 'a b' $DIR/one",
            f"{kind} create none $DIR/none",
            f"{kind} ls --format {{{{.Name}}}}",
            files={"one": "x", "empty": ""},
        ),
        scenario(
            f"{kind}s that are too large",
            f"{kind} create just $DIR/just",
            f"{kind} create large $DIR/large",
            files={
                "just": "x" * ((500 if kind == "secret" else 1000) * 1024 - 1),
                "large": "x" * (500 if kind == "secret" else 1000) * 1024,
            },
        ),
        scenario(
            f"{kind}s by the API",
            post(f"{path}/create", other),
            get(path),
            get(f"{path}/made"),
            get(f"{path}/$ID{{{path}/made}}"),
            post(f"{path}/create", other),
            post(f"{path}/create", {"Name": "x"}),
            post(f"{path}/create", {"Data": "eA=="}),
            post(f"{path}/create", {"Name": "x", "Data": "not base64"}),
            post(f"{path}/create", {"Name": "t", "Data": "eA==", "Templating": {"Name": "golang"}}),
            post(f"{path}/create", {"Name": "u", "Data": "eA==", "Templating": {"Name": "bogus"}}),
            get(f"{path}/t"),
            get(f"{path}/nobody"),
            delete(f"{path}/nobody"),
            delete(f"{path}/t"),
        ),
        scenario(
            f"{kind} updates",
            post(f"{path}/create", other),
            Update(f"{path}/made", {"Labels": {"c": "d"}}),
            get(f"{path}/made"),
            Update(f"{path}/made", {"Labels": None}),
            get(f"{path}/made"),
            Update(f"{path}/made", {"Name": "renamed"}),
            Update(f"{path}/made", {"Data": "b3RoZXI="}),
            post(f"{path}/made/update", {}),
            post(f"{path}/made/update?version=x", {}),
            post(f"{path}/made/update?version=1", {"Name": "made"}),
            post(f"{path}/nobody/update?version=1", {"Name": "nobody"}),
        ),
        scenario(
            f"{kind}s in use",
            f"{kind} create one $DIR/one",
            f"{RUN} --{kind} one --{kind} source=one,target=/tmp/here,uid=5,gid=6,mode=0400 $IMAGE sleep 1d",
            settle("web", running=1),
            "service inspect web",
            f"{kind} rm one",
            delete(f"{path}/one"),
            f"service create -d --no-resolve-image --name two --replicas 0 --{kind} one $IMAGE",
            f"{kind} rm one",
            f"{kind} create other $DIR/one",
            f"service update -d --no-resolve-image --{kind}-rm one --{kind}-add other web",
            f"service inspect -f '{{{{json .Spec.TaskTemplate.ContainerSpec.{kind.title()}s}}}}' web",
            "service rm web two",
            f"{kind} rm one other",
            files={"one": "hello"},
        ),
        scenario(
            f"{kind}s used wrongly",
            f"{kind} create one $DIR/one",
            f"{RUN} --replicas 0 --{kind} nobody $IMAGE",
            f"{RUN} --replicas 0 --{kind} source=one,target=x --{kind} source=one,target=x $IMAGE",
            f"{RUN} --replicas 0 --{kind} source=one,target=../x $IMAGE",
            f"{RUN} --replicas 0 --{kind} source=one,mode=9 $IMAGE",
            post(
                "/services/create",
                {
                    "Name": "raw",
                    "Mode": {"Replicated": {"Replicas": 0}},
                    "TaskTemplate": {
                        "ContainerSpec": {
                            "Image": "x",
                            f"{kind.title()}s": [{f"{kind.title()}ID": "nobody", f"{kind.title()}Name": "n"}],
                        }
                    },
                },
            ),
            files={"one": "hello"},
        ),
        scenario(
            f"docker-py's {kind}s",
            Py("create", lambda client: getattr(client, path[1:]).create(name="py", data=b"x").name),
            Py("list", lambda client: [each.attrs for each in getattr(client, path[1:]).list()]),
            Py("get", lambda client: getattr(client, path[1:]).get("py").attrs),
            Py("again", lambda client: getattr(client, path[1:]).create(name="py", data=b"x")),
            Py("none", lambda client: getattr(client, path[1:]).get("nobody")),
            Py("remove", lambda client: getattr(client, path[1:]).get("py").remove()),
        ),
    ]


SCENARIOS = [
    *kept("secret"),
    *kept("config"),
    scenario(
        "a secret is read in a task",
        "secret create one $DIR/one",
        "config create two $DIR/two",
        "service create -d --no-resolve-image --name web --restart-condition none --secret one"
        " --config source=two,target=/two,mode=0440 $IMAGE"
        " sh -c 'cat /run/secrets/one /two; ls -l /run/secrets/one /two | head -c 10'",
        settle("web", complete=1),
        Py("its output", lambda client: client.containers.list(all=True)[0].logs().decode()),
        files={"one": "hello ", "two": "world "},
    ),
    scenario(
        "secret drivers",
        post("/secrets/create", {"Name": "one", "Driver": {}}),
        post("/secrets/create", {"Name": "one", "Data": "YWJj", "Driver": {"Name": ""}}),
        "secret create --driver missing one",
        "secret create --driver missing one $DIR/one",
        "secret create --template-driver golang two $DIR/one",
        "secret inspect two",
        "config create --template-driver golang two $DIR/one",
        "config inspect two",
        "secret ls --format '{{.Name}} {{.Driver}}'",
        files={"one": "hello"},
        slow=True,  # Docker looks for the plugin for fifteen seconds
    ),
]
