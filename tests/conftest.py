"""What every test may use."""

from hypothesis import HealthCheck, settings

# These machines are slow and have noisy neighbours: examples count, seconds don't.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
