"""The tests. Run by pytest and by trial alike; tests/end_to_end has those with real processes.

What they find does not depend on how fast the machine is.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")
