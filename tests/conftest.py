from __future__ import annotations

from hypothesis import settings

# The machines that run these tests share their cores: an example's time says nothing there.
settings.register_profile("firestore-flowstate", deadline=None, max_examples=40)
settings.load_profile("firestore-flowstate")
