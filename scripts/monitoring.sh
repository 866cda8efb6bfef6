#!/usr/bin/env bash
# Starts, stops or shows what watches the cluster: with Docker Grafana, Prometheus, Loki, Alloy, Alertmanager and
# node-exporter; without, Debian's Prometheus and Alertmanager as processes of this user.
#
# Usage: scripts/monitoring.sh up|down|status|targets [OPTION]…
#   --runtime-dir DIR      of the cluster; --state-dir DIR: that in which data are kept
#   --native               no Docker, also where it runs; --docker: Docker or nothing
#   --port N               of Prometheus, implies --native; Alertmanager has N + 3 [default: that of
#                          HASHCLUSTER_MONITORING_PORT, or 9090]
#
# Everything listens at 127.0.0.1 only. Grafana's password is made at the first `up`, which prints where it is.
# A file alertmanager.yml beside ports.conf says who gets alerts. docs/monitoring.md has the details.
# Exit status of `status`: 0 all services are ready, 1 some are, 3 none was started.
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

case ${1:-} in
  -h | --help) usage; exit 0 ;;
  '') usage >&2; exit 2 ;;
esac

# shellcheck source=scripts/lib/programs
. "$root/scripts/lib/programs"
find_settings
bin=$("$root/scripts/bin-dir.sh" --no-build)
exec "$bin/hashcluster-vm" monitoring --files "$root/monitoring" --settings "$settings" "$@"
