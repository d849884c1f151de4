"""`docker stack …`: compose files deployed, listed, changed, removed."""

from __future__ import annotations

from tests.differential.scenario import Run, scenario, settle

IMAGE = "skep-test/busybox:latest"
DEPLOY = "stack deploy --resolve-image never -c $DIR/c.yml"
HOST = "networks: {default: {external: true, name: host}}"
PLAIN = f"""
version: "3.8"
services:
  web:
    image: {IMAGE}
    command: sleep 1d
    stop_signal: KILL
    deploy: {{replicas: 2, labels: {{tier: front}}}}
  db:
    image: {IMAGE}
    command: sleep 1d
    deploy: {{replicas: 0}}
{HOST}
"""
IDLE = PLAIN.replace("replicas: 2", "replicas: 0")
CHANGED = PLAIN.replace("tier: front", "tier: back").replace("  db:", "  other:")
MORE = 'version: "3.8"\nservices: {web: {environment: {A: "1"}, deploy: {labels: {size: big}}}}'
FULL = f"""
version: "3.9"
x-common: &common
  LOG: debug
services:
  full:
    image: {IMAGE}
    entrypoint: ["sh", "-c"]
    command: ["sleep 1d"]
    environment: {{<<: *common, A: "1", B: }}
    env_file: [env]
    labels: [a=b]
    hostname: h
    user: "1:1"
    working_dir: /tmp
    cap_add: [NET_ADMIN]
    cap_drop: [CHOWN]
    dns: 10.9.8.7
    dns_search: [a.org]
    extra_hosts: ["db:10.1.1.1"]
    init: true
    read_only: true
    stdin_open: true
    tty: true
    stop_grace_period: 3s
    stop_signal: INT
    sysctls: {{net.core.somaxconn: 99}}
    tmpfs: [/scratch]
    ulimits: {{nofile: {{soft: 10, hard: 20}}, nproc: 5}}
    healthcheck: {{test: ["CMD", "true"], interval: 2s, timeout: 1s, retries: 3, start_period: 1s}}
    logging: {{driver: json-file, options: {{max-size: 1m}}}}
    ports: ["8080:80", {{target: 81, published: 8081, mode: host, protocol: udp}}]
    volumes: ["data:/data", "/tmp:/host:ro", {{type: tmpfs, target: /t, tmpfs: {{size: 4096}}}}]
    networks: {{front: {{aliases: [api]}}}}
    secrets: [one, {{source: one, target: two, uid: "3", gid: "4", mode: 0400}}]
    configs: [conf]
    depends_on: [other]
    deploy:
      replicas: 0
      endpoint_mode: vip
      labels: {{c: d}}
      update_config: {{parallelism: 2, delay: 1s, failure_action: rollback, monitor: 2s, order: start-first}}
      rollback_config: {{parallelism: 1, order: stop-first}}
      resources:
        limits: {{cpus: "0.5", memory: 64M, pids: 9}}
        reservations: {{cpus: "0.1", memory: 8M}}
      restart_policy: {{condition: on-failure, delay: 1s, max_attempts: 2, window: 3s}}
      placement:
        constraints: ["node.role == manager"]
        preferences: [{{spread: node.labels.zone}}]
        max_replicas_per_node: 1
  other:
    image: {IMAGE}
    networks: [back]
    deploy: {{mode: global, placement: {{constraints: ["node.labels.x == y"]}}}}
networks:
  front: {{driver_opts: {{a: b}}, labels: {{e: f}}, attachable: true, ipam: {{config: [{{subnet: 172.28.5.0/24}}]}}}}
  back: {{ipam: {{config: [{{subnet: 172.28.6.0/24}}]}}}}
volumes:
  data: {{driver: local, driver_opts: {{g: h}}, labels: {{i: j}}}}
secrets:
  one: {{file: ./one}}
configs:
  conf: {{file: ./one, name: conf-1}}
"""
WRONG = {
    "extends": "services: {a: {image: x, extends: {service: b}}}",
    "unknown": 'version: "3.8"\nservices: {a: {image: x, nonsense: 1}}',
    "type": 'version: "3.8"\nservices: {a: {image: x, ports: 5}}',
    "ignored": f'version: "3.8"\nservices: {{a: {{image: {IMAGE}, build: ., restart: always, container_name: b}}}}\n{HOST}',
    "missing": 'version: "3.8"\nservices: {a: {image: x, networks: [none]}}',
    "external": 'version: "3.8"\nservices: {a: {image: x, networks: [nowhere]}}\nnetworks: {nowhere: {external: true}}',
    "empty": "",
}

SCENARIOS = [
    scenario(
        "a stack's life",
        f"{DEPLOY} st",
        settle("st_web", running=2),
        "stack ls",
        "stack ls --format '{{.Name}} {{.Services}}'",
        "stack ps --format '{{.Name}} {{.DesiredState}} {{.Image}}' st",
        "stack ps -q --filter desired-state=running st",
        "stack ps --no-trunc --no-resolve --filter node=self --format '{{.Name}} {{.Node}} {{.Image}}' st",
        "stack services st",
        "stack services -q st",
        "stack services --filter name=st_web --format '{{.Name}} {{.Replicas}}' st",
        "service inspect st_web",
        "stack deploy --resolve-image never --prune -c $DIR/d.yml st",
        "stack services --format '{{.Name}} {{.Replicas}}' st",
        "service inspect -f '{{json .Spec.Labels}}' st_web",
        "stack ps --format '{{.Name}} {{.DesiredState}}' st",
        "stack rm st",
        "stack ls",
        "stack services st",
        "stack rm st",
        files={"c.yml": PLAIN, "d.yml": CHANGED},
    ),
    scenario(
        "a stack with everything",
        f"{DEPLOY} st",
        "service inspect st_full",
        "service inspect st_other",
        "network inspect st_front",
        "secret ls --format '{{.Name}} {{.Labels}}'",
        "config ls --format '{{.Name}} {{.Labels}}'",
        f"{DEPLOY} st",
        "stack services --format '{{.Name}} {{.Mode}} {{.Replicas}} {{.Ports}}' st",
        "stack rm st",
        files={"c.yml": FULL, "one": "hello", "env": "FROM=file"},
    ),
    scenario(
        "a stack on a network of its own",
        f"{DEPLOY} st",
        settle("st_web", running=2),
        "network ls --filter scope=swarm --format '{{.Name}}'",
        "network inspect -f '{{json .Labels}}' st_default",
        # Which of its services gets which address is for the client's order to say, and that is any.
        "service inspect -f '{{json .Spec}} {{json .Endpoint.Spec}} {{len .Endpoint.VirtualIPs}}' st_web",
        "stack rm st",
        files={"c.yml": PLAIN.replace(HOST, "")},
    ),
    scenario(
        "stacks of several files",
        "stack deploy --resolve-image never -c $DIR/c.yml -c $DIR/more.yml st",
        "service inspect -f '{{json .Spec}}' st_web",
        Run("stack deploy --resolve-image never -c - st", stdin=IDLE),
        "service inspect -f '{{json .Spec}}' st_web",
        "stack deploy --resolve-image sometimes -c $DIR/c.yml st",
        "stack deploy --resolve-image changed -c $DIR/c.yml st",
        "stack deploy --resolve-image always --quiet -c $DIR/c.yml st",
        "stack services --filter mode=replicated --format '{{.Name}}' st",
        "stack services --filter label=tier=front --format '{{.Name}}' st",
        "stack services --filter id=$ID{/services/st_web} --format '{{.Name}}' st",
        "stack rm nobody st",
        files={"c.yml": IDLE, "more.yml": MORE},
    ),
    scenario(
        "a stack that is waited for",
        "stack deploy --resolve-image never --detach=false --quiet -c $DIR/c.yml st",
        "stack services --format '{{.Name}} {{.Replicas}}' st",
        "stack rm --detach=false st",
        "stack ls",
        files={"c.yml": PLAIN},
        slow=True,  # the client watches a service for five seconds after it runs
    ),
    scenario(
        "changed secrets of a stack",
        f"{DEPLOY} st",
        "stack deploy --resolve-image never -c $DIR/d.yml st",
        "stack rm st",
        files={
            "c.yml": f'version: "3.8"\nsecrets: {{s: {{file: ./one}}}}\nservices: {{a: {{image: {IMAGE}, secrets: [s], deploy: {{replicas: 0}}}}}}\n{HOST}',
            "d.yml": f'version: "3.8"\nsecrets: {{s: {{file: ./two}}}}\nservices: {{a: {{image: {IMAGE}, secrets: [s], deploy: {{replicas: 0}}}}}}\n{HOST}',
            "one": "1",
            "two": "2",
        },
    ),
    scenario(
        "stacks deployed wrongly",
        *(f"stack deploy --resolve-image never -c $DIR/{name} st" for name in WRONG),
        "stack deploy -c $DIR/none st",
        "stack deploy --resolve-image never -c $DIR/odd 'a b'",
        "stack rm nobody",
        "stack ps nobody",
        "stack services nobody",
        "stack services --filter color=red st",
        "stack rm st",
        files={**WRONG, "odd": f'version: "3.8"\nservices: {{a: {{image: {IMAGE}}}}}\n{HOST}'},
    ),
    scenario(
        "stack config",
        "stack config -c $DIR/c.yml",
        "stack config -c $DIR/c.yml --skip-interpolation",
        "stack config -c $DIR/none",
        files={"c.yml": FULL, "one": "hello", "env": "FROM=file"},
    ),
]
