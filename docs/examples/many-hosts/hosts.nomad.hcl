# A cluster of VMs and its bridge on each client that has the dataset. hashcluster is installed there (`cargo xtask install`
# or the package), and /etc/hashcluster/bridge.toml exists.
#
# The VMs are started by `hashcluster` and not by Nomad's QEMU driver: a cluster's VMs speak by vsock, share the host's
# files read-only, and are restarted together by their supervisor, none of which the driver does.
job "hashcluster" {
  type        = "system"
  datacenters = ["*"]

  constraint {
    attribute = "${meta.hashcluster_dataset}"
    value     = "photos"
  }

  update {
    max_parallel     = 1
    min_healthy_time = "30s"
    healthy_deadline = "5m"
  }

  group "host" {
    restart {
      attempts = 10
      interval = "30m"
      delay    = "15s"
      mode     = "delay"
    }

    network {
      mode = "host"
      port "metrics" {
        static = 9490
      }
    }

    task "cluster" {
      driver       = "raw_exec"
      user         = "hashcluster"
      kill_timeout = "60s"

      config {
        command = "/usr/bin/hashcluster"
        args    = ["--foreground", "--runtime-dir", "/run/hashcluster", "--dataset", "photos=/srv/photos"]
      }

      resources {
        cpu    = 2000
        memory = 2048
      }
    }

    task "bridge" {
      driver       = "raw_exec"
      user         = "hashcluster"
      kill_timeout = "90s"

      env {
        HASHCLUSTER_BRIDGE_HOST = "${node.unique.name}"
      }

      config {
        command = "/usr/bin/hashcluster-bridge"
        args    = ["serve", "--http", "127.0.0.1:9490"]
      }

      service {
        provider = "nomad"
        name     = "hashcluster-bridge"
        port     = "metrics"
        address  = "127.0.0.1"
        check {
          type     = "http"
          path     = "/readyz"
          interval = "15s"
          timeout  = "5s"
        }
      }

      resources {
        cpu    = 200
        memory = 128
      }
    }
  }
}
