"""What feeds programs that watch swarms: Telegraf, InfluxDB, Prometheus, Grafana. Asks by the API only."""
