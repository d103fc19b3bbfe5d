"""The offline loop: from the call log to a snapshot. Heavy libraries live here; serving never imports this package."""
