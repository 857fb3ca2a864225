"""Seeing a server while it runs: what its metrics, `GET /debug/tree` and its watchdog stand on."""
