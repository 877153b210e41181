#!/bin/bash
# Builds the image of the Dockerfile, starts it as the chart does (uid 10001, nothing writable but /data and /tmp)
# and asks it one question.  usage: deploy/image_test.sh [EXTRA]
# With docker or podman it uses them; else buildah, with a Debian base made from Debian's packages, so that no image
# registry is needed. What must stay true: the image answers without a network and holds no more than MOST_MB.
set -euo pipefail
cd "$(dirname "$0")/.."
extra=${1:-cpu} tag=twinlens:image-test port=${PORT:-8222} most=${MOST_MB:-450}

ask() { # wait for the server, then ask it
  for _ in $(seq 240); do
    if python3 - "$port" <<'PY' 2>/dev/null; then return; fi
import json, sys, urllib.request
url = f"http://127.0.0.1:{sys.argv[1]}"
request = urllib.request.Request(f"{url}/embed", json.dumps({"texts": ["a red heart"]}).encode(), {"content-type": "application/json"})
answer = json.load(urllib.request.urlopen(request, timeout=5))
print(f"answered: {len(answer['embeddings'][0])} dimensions of {answer['model']} {answer['revision'][:12]}", file=sys.stdout)
PY
    sleep 0.5
  done
  echo "the server did not answer within two minutes" >&2
  return 1
}

judge_size() { # megabytes
  echo "image: $1 MB (at most $most)"
  [ "$1" -le "$most" ]
}

build_and_run_with() { # docker or podman
  "$1" build --quiet --build-arg EXTRA="$extra" -t "$tag" .
  container=$("$1" run --detach --rm --read-only --tmpfs /tmp --user 10001 --publish "127.0.0.1:$port:8000" "$tag")
  trap "$1 rm --force $container >/dev/null" EXIT
  ask
  judge_size $(($("$1" image inspect --format '{{.Size}}' "$tag") / 1000000))
}

make_base() { # a Debian of packages, under the name that the Dockerfile has for it
  local archive mirror
  archive=$(mktemp --suffix=.tar)
  mirror=$(awk '/^URIs:/ {print $2; exit} /^deb / {print $2; exit}' /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null)
  mmdebstrap --quiet --variant=minbase --mode=root --include=ca-certificates trixie "$archive" "${mirror:-http://deb.debian.org/debian}"
  base=$(buildah from scratch)
  buildah add --quiet "$base" "$archive" / >/dev/null
  buildah commit --quiet "$base" docker.io/library/debian:trixie-slim >/dev/null
  buildah rm "$base" >/dev/null
  rm -f "$archive"
  # The Dockerfile names the CUDA image too; its stage is not built for EXTRA=cpu.
  buildah tag docker.io/library/debian:trixie-slim docker.io/nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04
}

build_and_run_with_buildah() {
  export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
  buildah images --quiet docker.io/library/debian:trixie-slim >/dev/null 2>&1 || make_base
  options=(--env UV_SYSTEM_CERTS=1)
  for path in /etc/ssl/certs /usr/share/ca-certificates /etc/pip.conf /etc/xdg/pip "$HOME/.config/pip"; do
    [ -e "$path" ] && options+=(--volume "$path:$path:ro")
  done
  while read -r line; do options+=(--env "$line"); done < <(env | grep -E '^(UV_|PIP_|SSL_CERT_FILE=)' || true)
  buildah bud --quiet --pull-never --network host --build-arg EXTRA="$extra" "${options[@]}" -t "$tag" . >/dev/null
  container=$(buildah from --pull-never "localhost/$tag")
  mounted=$(buildah mount "$container")
  size=$(du --summarize --bytes --exclude=proc "$mounted" | awk '{print int($1 / 1000000)}')
  buildah run --user 10001 --env HOME=/tmp --env TWINLENS_CACHE=/tmp/twinlens "$container" -- \
    twinlens serve --host 127.0.0.1 --port "$port" --data /data 2>/dev/null &
  server=$!
  trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; buildah rm "$container" >/dev/null' EXIT
  ask
  judge_size "$size"
}

if docker info >/dev/null 2>&1; then build_and_run_with docker
elif podman info >/dev/null 2>&1; then build_and_run_with podman
elif command -v buildah >/dev/null && command -v mmdebstrap >/dev/null; then build_and_run_with_buildah
else
  echo "skipped: neither docker, podman nor buildah with mmdebstrap is installed (apt-get install buildah mmdebstrap crun)"
fi
