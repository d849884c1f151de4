#!/usr/bin/env bash
# What `docker context inspect` prints as JSON its own template does not find.
#
# Versions: docker client 20.10.24 (Debian 12), 26.1.5 (Debian 13), 28.5.2 (Debian testing).
# Question: a context was made with --description. `docker context inspect` shows Metadata.Description; does
#           --format '{{.Metadata.Description}}' print it, as `docker context ls --format {{.Description}}` does?
# Guess:    yes: the template walks what the JSON shows, as with `docker inspect` of anything else.
# Observed: "can't evaluate field Description", status 1, with all three: in templates .Metadata is what the JSON has at
#           its top (Name, Metadata, Endpoints), so the description is {{.Metadata.Metadata.Description}} there.
# To do:    write Metadata twice in templates of this command, or read the JSON, as skep does.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
docker context create mine --description "of ada" --docker host=unix:///nowhere.sock >/dev/null 2>&1
asked() {
    docker context inspect mine --format "$1" 2>/tmp/err | grep . ||
        echo "status ${PIPESTATUS[0]}: $(grep -o "can't evaluate field [A-Za-z]*" /tmp/err)"
}
same "in the JSON, below .Metadata" "of ada" "$(docker context inspect mine | sed -n 's/^ *"Description": "\(.*\)"$/\1/p')"
same "'context ls', {{.Description}}" "of ada" \
    "$(docker context ls --format '{{if eq .Name "mine"}}{{.Description}}{{end}}' | grep .)"
same "'context inspect', {{.Metadata.Description}}" "status 1: can't evaluate field Description" \
    "$(asked '{{.Metadata.Description}}')"
same "'context inspect', {{.Metadata.Metadata.Description}}" "of ada" "$(asked '{{.Metadata.Metadata.Description}}')"
INSIDE
for version in 20.10.24 26.1.5 28.5.2; do on_engine $version <"$work/inside"; done
