"""What a running system tells of itself: figures for Prometheus, log lines, traces."""
