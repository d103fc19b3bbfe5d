"""HTTP that is not a call: health, metrics, the admin API, the start page. Database work runs in threads."""
